import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Client } from 'ldapts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Domain, type Login, startDomain } from '../lab/domain.ts'
import { needs } from '../lab/skip.ts'

/** msDS-ManagedPassword of web01$ as `login` is shown it by one controller. */
async function readBlob(domain: Domain, ip: string, name: string, login: Login) {
  const tlsOptions = { ca: readFileSync(domain.ca), servername: `${name}.${domain.dns}` }
  const client = new Client({ url: `ldaps://${ip}`, tlsOptions })
  try {
    await client.bind(`${login.username}@${domain.dns}`, login.password)
    const attributes = ['msDS-ManagedPassword']
    const filter = '(sAMAccountName=web01$)'
    const asked = { scope: 'sub', filter, attributes, explicitBufferAttributes: attributes } as const
    const { searchEntries } = await client.search(domain.base, asked)
    return searchEntries[0]?.['msDS-ManagedPassword']
  } finally {
    await client.unbind()
  }
}

/** The 256 bytes of the current password: [MS-ADTS] 2.2.19, its offset at byte 8. */
function passwordOf(blob: unknown): Buffer {
  if (!Buffer.isBuffer(blob)) throw new TypeError('not a blob')
  const start = blob.readUInt16LE(8)
  return blob.subarray(start, start + 256)
}

describe.skipIf(!needs('samba', 'krb5'))('a lab domain', () => {
  let domain: Domain
  beforeAll(async () => {
    domain = await startDomain()
  })
  afterAll(async () => {
    const pids = ['dc1', 'dc2'].map((name) => Number(readFileSync(join(domain.state, name, 'run/samba.pid'), 'utf8')))
    expect(pids.map(isRunning)).toEqual([true, true])
    await domain[Symbol.asyncDispose]()
    expect(pids.map(isRunning)).toEqual([false, false])
    expect(existsSync(domain.state)).toBe(false)
  })

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
    const blob = await readBlob(domain, domain.ip, 'dc1', domain.ccg)
    expect(Buffer.isBuffer(blob) && blob.length).toBeGreaterThan(280)
  })

  test('lets nobody else read it', async () => {
    expect(await readBlob(domain, domain.ip, 'dc1', domain.admin)).toEqual([])
  })

  test('has a second controller that gives the same answer', async () => {
    const second = await domain.secondDc()
    const [one, two] = await Promise.all([
      readBlob(domain, domain.ip, 'dc1', domain.ccg),
      readBlob(domain, second, 'dc2', domain.ccg),
    ])
    expect(passwordOf(two)).toEqual(passwordOf(one))
  })

  test('moves its clock, and kinit with it', async () => {
    await domain.clock('+21h')
    expect(await domain.kinit(domain.ccg.username, domain.ccg.password)).toMatchObject({ code: 0 })
  })
})

describe.skipIf(!needs('samba'))('a lab domain whose test is killed', () => {
  test('stops by itself and leaves nothing behind', async () => {
    const program = `
      const { startDomain } = await import(${JSON.stringify(join(import.meta.dirname, '../lab/domain.ts'))})
      const { state, realm } = await startDomain({ realm: 'random', seed: false })
      console.log(JSON.stringify({ state, realm }))
      setInterval(() => {}, 1000)`
    const owner = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [line] = await once(owner.stdout, 'data')
    const { state, realm }: { state: string; realm: string } = JSON.parse(String(line))
    expect(realm).toMatch(/^L[0-9A-F]{8}\.TEST$/)
    const pid = Number(readFileSync(join(state, 'dc1/run/samba.pid'), 'utf8'))
    expect(isRunning(pid)).toBe(true)
    owner.kill('SIGKILL')
    await expect.poll(() => isRunning(pid) || existsSync(state), { timeout: 15_000 }).toBe(false)
  })
})

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
