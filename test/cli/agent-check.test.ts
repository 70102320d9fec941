import { mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Finding } from '../../src/cli/findings.ts'
import { type AgentRig, makeAgentRig } from '../fakes/agent-rig.ts'
import { runCli } from '../fakes/cli.ts'
import { type DirectoryKdc, startDirectoryKdc } from '../fakes/directory-kdc.ts'

let at: AgentRig
let kdc: DirectoryKdc
beforeEach(async () => {
  at = await makeAgentRig()
  kdc = await startDirectoryKdc(at)
})
afterEach(async () => {
  await at[Symbol.asyncDispose]()
  await kdc[Symbol.asyncDispose]()
})

const host = () => `localhost:${at.rig.service.port}`

/** Runs `agent check` with these accounts, as YAML has them; files are relative to the agent's folder. */
async function check(accounts: readonly string[], { args = [], more = '', servers = [host()] }: Options = {}) {
  const { certificate, key } = at.rig.files.client
  const text = [
    `servers: [${servers.map((each) => `'https://${each}'`).join()}]`,
    `tls: { certificate: ${certificate}, key: ${key}, ca: ${at.rig.files.ca} }`,
    more,
    'accounts:',
    ...accounts.map((line) => `  ${line}`),
  ]
  await writeFile(join(at.folder, 'agent.yaml'), text.join('\n'))
  const flags = ['agent', 'check', '--config', join(at.folder, 'agent.yaml'), ...args]
  return runCli(flags, { env: { KRB5_CONFIG: kdc.krb5Config } })
}
interface Options {
  readonly args?: readonly string[]
  readonly more?: string
  readonly servers?: readonly string[]
}

async function findings(accounts: readonly string[], options: Options = {}): Promise<Map<string, Finding>> {
  const { stdout } = await check(accounts, { ...options, args: ['--json', ...(options.args ?? [])] })
  const all: Finding[] = JSON.parse(stdout).findings
  return new Map(all.map((each) => [each.subject, each]))
}

/** Bytes, times and modes of all that is in the agent's folder, and of the folders. */
async function picture(): Promise<unknown> {
  const entries = await readdir(at.folder, { recursive: true, withFileTypes: true })
  const paths = [at.folder, ...entries.map(({ parentPath, name }) => join(parentPath, name))].toSorted()
  return Promise.all(
    paths.map(async (path) => {
      const { mode, ino, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
      const bytes = (mode & 0o170000n) === 0o100000n ? (await readFile(path)).toString('hex') : ''
      return [path, mode, ino, mtimeNs, ctimeNs, bytes]
    }),
  )
}

const BOTH = ['web01: { acceptorKeytab: { file: acceptor }, ccache: { lease: credspec } }']
const LEASES = 'leases: { directory: krbdir }'

describe('O3: agent check', () => {
  test('O3: a table of all that was tried, exit code 0, and no file made', async () => {
    const { code, stdout, stderr } = await check(BOTH, { more: LEASES })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const lines = stdout.trimEnd().split('\n')
    expect(lines.map((line) => line.split(/ {2,}/).slice(0, 2))).toEqual([
      ['ok', 'configuration'],
      ['ok', 'certificate'],
      ['ok', 'web01 acceptor file'],
      ['ok', 'web01 ccache file'],
      ['ok', `web01 acceptor from ${host()}`],
      ['ok', `web01 ccache from ${host()}`],
      ['ok', 'web01 ticket'],
    ])
    expect(stdout).toMatch(/acceptor from \S+ +4 keys, kvno 9; HTTP\/web01\.ad\.test@AD\.TEST/)
    expect(stdout).toMatch(/web01 ticket +from 127\.0\.0\.1:\d+, until 20/)
    expect(stdout).toMatch(/ccache file +\S+krb5cc: not there yet, nor is \S+krbdir\n/)
    expect((await readdir(at.folder)).toSorted()).toEqual(['agent.yaml', 'krb5.conf'])
  })

  test('O3: what is there is neither written nor touched', async () => {
    await at.once([{ file: at.path('acceptor') }])
    await check(BOTH, { more: LEASES })
    const config = await readFile(at.path('agent.yaml'))
    const before = await picture()
    const flags = ['agent', 'check', '--config', at.path('agent.yaml'), '--json']
    const { code, stdout } = await runCli(flags, { env: { KRB5_CONFIG: kdc.krb5Config } })
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ ok: true })
    expect(await picture()).toEqual(before)
    expect(await readFile(at.path('agent.yaml'))).toEqual(config)
  })

  test('K15: without the network it fails, and every file stays, byte for byte and by its times', async () => {
    await at.once([{ file: at.path('acceptor') }])
    await at.rig.service.stop()
    await check(BOTH, { more: LEASES })
    const before = await picture()
    const flags = ['agent', 'check', '--config', at.path('agent.yaml')]
    const { code, stdout } = await runCli(flags, { env: { KRB5_CONFIG: kdc.krb5Config } })
    expect(code).toBe(1)
    expect(stdout).toMatch(/^failed {3}web01 acceptor from localhost:\d+ +localhost:\d+: ECONNREFUSED/m)
    expect(stdout).toMatch(/^ok {7}web01 acceptor file +\S+acceptor: 4 entries$/m)
    expect(await picture()).toEqual(before)
  })

  test('O3: --offline asks nobody', async () => {
    await at.rig.service.stop()
    const found = await findings(BOTH, { more: LEASES, args: ['--offline'] })
    expect([...found.keys()]).toEqual(['configuration', 'certificate', 'web01 acceptor file', 'web01 ccache file'])
    expect((await check(BOTH, { more: LEASES, args: ['--offline'] })).code).toBe(0)
  })

  test('O3: each address is tried, not only the first that answers', async () => {
    const found = await findings(['web01: { initiatorKeytab: { file: k } }'], { servers: [host(), 'localhost:1'] })
    expect(found.get(`web01 initiator from ${host()}`)).toMatchObject({ state: 'ok' })
    expect(found.get('web01 initiator from localhost:1')).toMatchObject({ state: 'failed', code: 'STORE_UNAVAILABLE' })
  })

  test('O3: one account by flags is checked as well', async () => {
    const { certificate, key } = at.rig.files.client
    const identity = ['--server', `https://${host()}`, '--cert', certificate, '--key', key, '--ca', at.rig.files.ca]
    const args = ['agent', 'check', ...identity, '--account', 'web01', '--initiator-keytab', at.path('own')]
    expect(await runCli(args)).toMatchObject({ code: 0, stderr: '' })
    await expect(stat(at.path('own'))).rejects.toThrow('ENOENT')
  })
})

describe('O3: what would not work is a finding', () => {
  const keytab = (name: string, more = '') => `web01: { initiatorKeytab: { file: ${name}${more} } }`
  const offline = { args: ['--offline'] }

  test.each<[string, string, string, RegExp]>([
    ['no folder', keytab('none/k'), 'web01 initiator file', /its folder can't be found \(ENOENT\)/],
    ['a folder in its place', keytab('folder'), 'web01 initiator file', /something else than a file/],
    ['no keytab in its place', keytab('agent.yaml'), 'web01 initiator file', /what stands there can't be kept/],
    ['an owner nobody knows', keytab('k', ', owner: nobody-at-all'), 'web01 initiator file', /not in \/etc\/passwd/],
    ['no such program', keytab('k', ', onChange: { command: [no-such-program] }'), 'web01 initiator hook', /no such/],
    [
      'no such process file',
      keytab('k', ', onChange: { signal: HUP, pidFile: none }'),
      'web01 initiator hook',
      /none: can't be read \(ENOENT\)/,
    ],
    ['a lease behind a link', 'web01: { ccache: { lease: linked } }', 'web01 ccache file', /expected a folder/],
  ])('O3: %s', async (_what, account, subject, said) => {
    await mkdir(at.path('folder'))
    await mkdir(at.path('krbdir'), { mode: 0o755 })
    await symlink(at.path('folder'), at.path('krbdir/linked'))
    const found = await findings([account], { ...offline, more: LEASES })
    expect(found.get(subject)).toMatchObject({ state: 'failed', detail: expect.stringMatching(said) })
  })

  test('O4: an account that is left out, with line and column', async () => {
    const found = await findings([keytab('k'), 'sql01: { initiatorKeytab: { fil: k } }'], offline)
    expect(found.get('account sql01')).toMatchObject({ state: 'failed', detail: expect.stringMatching(/:\d+:\d+: /) })
    expect(found.get('web01 initiator file')).toMatchObject({ state: 'ok' })
  })

  test('O3: an account the service does not give, and a lease under another name', async () => {
    const lines = ['ghost: { initiatorKeytab: { file: k } }', 'web01: { ccache: { lease: a, gmsa: reports } }']
    const found = await findings(lines, { more: LEASES })
    expect(found.get(`ghost initiator from ${host()}`)).toMatchObject({ state: 'failed', code: 'ACCOUNT_NOT_FOUND' })
    expect(found.get(`web01 ccache from ${host()}`)?.detail).toContain('named reports, and the gMSA web01')
  })

  test('K9: two outputs that would keep the same principal in one file', async () => {
    const lines = [keytab('k'), 'again: { account: web01, initiatorKeytab: { file: k } }']
    const found = await findings(lines)
    expect(found.get(`again initiator from ${host()}`)?.detail).toContain('is kept there for web01 initiator already')
  })

  test('O3: a certificate that can’t be used, after which nobody is asked', async () => {
    await writeFile(at.rig.files.client.certificate, 'no PEM')
    const found = await findings([keytab('k')])
    expect(found.get('certificate')).toMatchObject({ state: 'failed', code: 'CONFIG_INVALID' })
    expect(found.get('service')).toMatchObject({ state: 'skipped' })
  })

  test('O3: a ticket that no KDC gives', async () => {
    await writeFile(kdc.krb5Config, '[libdefaults]\n dns_lookup_kdc = false\n')
    const found = await findings(['web01: { ccache: { file: cc } }'])
    expect(found.get('web01 ticket')).toMatchObject({ state: 'failed', reason: 'not-found' })
    expect(found.get(`web01 ccache from ${host()}`)).toMatchObject({ state: 'ok' })
  })
})
