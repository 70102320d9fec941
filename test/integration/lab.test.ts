import { readFileSync } from 'node:fs'
import { Client } from 'ldapts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Domain, startDomain } from '../lab/domain.ts'
import { needs } from '../lab/skip.ts'

describe.skipIf(!needs('samba', 'krb5'))('a lab domain', () => {
  let domain: Domain
  beforeAll(async () => {
    domain = await startDomain()
  })
  afterAll(() => domain?.[Symbol.asyncDispose]())

  test('gives a ticket for the right password', async () => {
    const { username, password } = domain.ccg
    const { code, stderr, ccache } = await domain.kinit(username, password)
    expect(stderr).toBe('')
    expect(code).toBe(0)
    const { stdout } = await domain.run('klist', ['-c', ccache])
    expect(stdout).toContain(`Default principal: svc-ccg@${domain.realm}`)
  })

  test('refuses a wrong password', async () => {
    const { code, stderr } = await domain.kinit(domain.ccg.username, 'not the password')
    expect(code).not.toBe(0)
    expect(stderr).toMatch(/Preauthentication failed|Password incorrect/)
  })

  test.each([
    ['disabled', { disabled: true }, /revoked/],
    ['expired', { expired: true }, /expired|revoked/],
    ['with a password to change', { mustChange: true }, /expired|change/i],
    ['locked out', { locked: true }, /revoked|locked/i],
  ])('refuses an account that is %s, and takes it back afterwards', async (_, state, said) => {
    const { username, password } = domain.outsider
    await domain.setAccount(username, state)
    const refused = await domain.kinit(username, password)
    expect(refused.code).not.toBe(0)
    expect(refused.stdout + refused.stderr).toMatch(said)
    await domain.setAccount(username, {})
    expect(await domain.kinit(username, password)).toMatchObject({ code: 0 })
  })

  test('takes a new password at once and refuses the old one', async () => {
    const { username, password } = domain.outsider
    await domain.setPassword(username, 'New-Passw0rd-of-the-lab')
    expect(await domain.kinit(username, password)).toMatchObject({ code: 1 })
    expect(await domain.kinit(username, 'New-Passw0rd-of-the-lab')).toMatchObject({ code: 0 })
  })

  test('lets the impersonation account read a gMSA over LDAPS', async () => {
    const tlsOptions = { ca: readFileSync(domain.ca), servername: domain.serverName }
    const client = new Client({ url: domain.ldapsUrl, tlsOptions })
    try {
      await client.bind(`${domain.ccg.username}@${domain.dns}`, domain.ccg.password)
      const attributes = ['msDS-ManagedPassword']
      const filter = '(sAMAccountName=web01$)'
      const asked = { scope: 'sub', filter, attributes, explicitBufferAttributes: attributes } as const
      const { searchEntries } = await client.search(domain.base, asked)
      const blob = searchEntries[0]?.['msDS-ManagedPassword']
      expect(Buffer.isBuffer(blob) && blob.length).toBeGreaterThan(280)
    } finally {
      await client.unbind()
    }
  })

  test('moves its clock, and kinit with it', async () => {
    await domain.clock('+21h')
    expect(await domain.kinit(domain.ccg.username, domain.ccg.password)).toMatchObject({ code: 0 })
  })
})
