import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type CliResult, runCli } from '../fakes/cli.ts'
import { makePki, writePki } from '../fakes/pki.ts'
import { makeRig } from '../fakes/rig.ts'
import { type Domain, startDomain } from '../lab/domain.ts'
import { needs } from '../lab/skip.ts'

describe.skipIf(!needs('samba', 'krb5'))('a credential against a real domain', () => {
  let domain: Domain
  let directory: string
  beforeAll(async () => {
    domain = await startDomain()
    directory = await mkdtemp(join(tmpdir(), 'gmsa-doctor-'))
    const files = await writePki(directory, await makePki())
    const config = {
      tls: { ...files.server, clientCa: files.ca },
      providers: { local: { type: 'file', directory } },
      accounts: { 'svc-ccg': { provider: 'local' } },
    }
    await writeFile(join(directory, 'config.json'), JSON.stringify(config))
  })
  afterAll(async () => {
    await domain[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })

  async function store(password: string): Promise<void> {
    const record = { username: domain.ccg.username, password, domainName: domain.dns }
    await writeFile(join(directory, 'svc-ccg.json'), JSON.stringify(record), { mode: 0o600 })
  }

  function doctor(...more: string[]): Promise<CliResult> {
    return runCli(['doctor', 'svc-ccg', '--config', join(directory, 'config.json'), ...more])
  }

  const reached = () => ['--dc', domain.ip, '--ca', domain.ca]

  test('the credential that comes over mTLS from the file store logs on', async () => {
    const { username, password } = domain.ccg
    const record = JSON.stringify({ username, password, domainName: domain.dns })
    await using rig = await makeRig({
      secrets: { 'svc-ccg.json': record },
      config: { accounts: new Map([['svc-ccg', { provider: 'local', options: {} }]]) },
    })
    const answer = JSON.parse((await rig.provider('svc-ccg')).body)
    expect(answer.domainName).toBe(domain.dns)
    const { code, stderr } = await domain.kinit(answer.username, answer.password)
    expect(stderr).toBe('')
    expect(code).toBe(0)
    expect((await domain.kinit(answer.username, `${answer.password}x`)).code).not.toBe(0)
  })

  test('doctor finds every link whole when the stored password is right', async () => {
    await store(domain.ccg.password)
    const { code, stdout, stderr } = await doctor(...reached())
    expect(stderr).toBe('')
    expect(stdout).toMatch(/^ok +log-on +svc-ccg@.* logs on at/m)
    expect(stdout).not.toContain('failed')
    expect(code).toBe(0)
  })

  test('doctor says that the log-on fails, and why, when the stored password is wrong', async () => {
    await store('not the password')
    const { code, stdout } = await doctor(...reached())
    expect(stdout).toMatch(/^failed +log-on .*wrong user name or password \(data 52e\) \[bad-password\]/m)
    expect(stdout).toMatch(/hint: store the current password/)
    expect(stdout).not.toContain('not the password')
    expect(code).toBe(1)
    const { findings } = JSON.parse((await doctor(...reached(), '--json')).stdout)
    expect(findings.at(-1)).toMatchObject({ subject: 'log-on', state: 'failed', reason: 'bad-password' })
  })

  test.each([
    [{ disabled: true }, 'disabled', /the account is disabled \(data 533\)/],
    [{ expired: true }, 'expired', /the account has expired \(data 701\)/],
    [{ mustChange: true }, 'must-change', /must be changed at the next log-on \(data 773\)/],
  ] as const)('doctor translates what the directory says of an account that is %o', async (state, reason, said) => {
    await store(domain.ccg.password)
    await domain.setAccount('svc-ccg', state)
    try {
      const { code, stdout } = await doctor(...reached())
      expect(stdout).toMatch(said)
      expect(stdout).toContain(`[${reason}]`)
      expect(code).toBe(1)
    } finally {
      await domain.setAccount('svc-ccg', { disabled: false, expired: false, mustChange: false })
    }
  })

  test('doctor names what is wrong with the way to the domain controller', async () => {
    await store(domain.ccg.password)
    expect((await doctor('--dc', domain.ip)).stdout).toMatch(/^failed +clock .*\[unknown-ca\]/m)
    expect((await doctor('--dc', '127.0.0.1', '--ca', domain.ca)).stdout).toMatch(/\[refused\]/)
    expect((await doctor('--dc', 'no-such-host.invalid', '--ca', domain.ca)).stdout).toMatch(/\[not-found\]/)
    const otherAddress = domain.ip.replace(/\d+$/, '200')
    expect((await doctor('--dc', otherAddress, '--ca', domain.ca)).stdout).toMatch(/\[refused\]/)
  })
})
