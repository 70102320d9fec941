import { type ChildProcess, spawn } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CLI, type CliResult, runCli } from '../fakes/cli.ts'
import { makePki, type PkiFiles, writePki } from '../fakes/pki.ts'
import { blocksOf, commandsOf, stepsOf } from '../house/markdown.ts'
import { text } from '../house/source.ts'
import { type Domain, startDomain } from '../lab/domain.ts'
import { relay } from '../lab/relay.ts'
import { needs } from '../lab/skip.ts'

/** Accounts of the service, by the enctypes asked for, and what a Kerberos client calls them. */
const ENCTYPES = { aes256: 'aes256-cts', aes128: 'aes128-cts', rc4: 'arcfour-hmac' }

describe.skipIf(!needs('samba', 'krb5'))('keytabs of real gMSAs, by the real commands', () => {
  let domain: Domain
  let directory: string
  let files: PkiFiles
  let child: ChildProcess
  let server: string
  const config = () => join(directory, 'config.json')

  beforeAll(async () => {
    domain = await startDomain({ realm: 'random' })
    directory = await mkdtemp(join(tmpdir(), 'gmsa-keytab-'))
    files = await writePki(directory, await makePki())
    const secrets = join(directory, 'secrets')
    await mkdir(secrets, { mode: 0o700 })
    const record = { username: domain.ccg.username, password: domain.ccg.password, domainName: domain.dns }
    await writeFile(join(secrets, 'svc-ccg.json'), JSON.stringify(record), { mode: 0o600 })
    const only = Object.keys(ENCTYPES).map((word) => [
      `web01-${word}`,
      { provider: 'ad', samAccountName: 'web01$', enctypes: [word] },
    ])
    await writeFile(
      config(),
      JSON.stringify({
        listen: { port: 0 },
        admin: { port: 0 },
        tls: { ...files.server, clientCa: files.ca },
        providers: {
          local: { type: 'file', directory: 'secrets' },
          ad: {
            type: 'active-directory',
            domain: domain.dns,
            servers: [domain.ip],
            ca: domain.ca,
            bind: { provider: 'local', account: 'svc-ccg' },
          },
        },
        accounts: {
          'svc-ccg': { provider: 'local' },
          web01: { provider: 'ad', samAccountName: 'web01$' },
          sql01: { provider: 'ad', samAccountName: 'sql01$' },
          secret01: { provider: 'ad', samAccountName: 'secret01$' },
          ...Object.fromEntries(only),
        },
        clients: [{ match: { uri: 'spiffe://localhost/client/test' }, allow: ['keytab'], accounts: ['*'] }],
        shutdown: { drainDelay: '0s' },
      }),
    )
    child = spawn(process.execPath, [...CLI, 'run', '--config', config()], { stdio: ['ignore', 'pipe', 'inherit'] })
    const { promise, resolve } = Promise.withResolvers<number>()
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      const { msg, port } = JSON.parse(line)
      if (msg === 'listening') resolve(port)
    })
    server = `https://localhost:${await promise}`
  })
  afterAll(async () => {
    child.kill('SIGKILL')
    await domain[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })

  async function getKeytab(account: string, use: string): Promise<CliResult & { readonly path: string }> {
    const path = join(directory, `${account}-${use}.keytab`)
    const identity = ['--cert', files.client.certificate, '--key', files.client.key, '--ca', files.ca]
    const got = await runCli(['keytab', 'get', account, '-o', path, '--server', server, '--for', use, ...identity])
    return { ...got, path }
  }

  async function logOn(path: string, name: string, env: NodeJS.ProcessEnv = {}): Promise<string> {
    const ccache = `FILE:${join(directory, 'ccache')}`
    const args = ['-k', '-t', path, '-c', ccache, `${name}@${domain.realm}`]
    const { code, stderr } = await domain.run('kinit', args, undefined, env)
    return code === 0 ? '' : stderr
  }

  test.each([
    ['web01', 'web01$'],
    ['sql01', 'sql01$'],
  ])('the initiator keytab of %s logs on, and the file has mode 0600', async (account, name) => {
    const { code, stdout, stderr, path } = await getKeytab(account, 'initiator')
    expect(stderr).toBe('')
    expect(code).toBe(0)
    expect(stdout).toContain(`${name}@${domain.realm}`)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect(await logOn(path, name)).toBe('')
  })

  test.each(Object.entries(ENCTYPES))(
    'a keytab of %s alone logs on where the client takes that',
    async (word, enctype) => {
      const { code, path } = await getKeytab(`web01-${word}`, 'initiator')
      expect(code).toBe(0)
      const conf = join(directory, `${word}.conf`)
      const text = await readFile(domain.env['KRB5_CONFIG'] ?? '', 'utf8')
      await writeFile(
        conf,
        text.replace('[libdefaults]', `[libdefaults]\n  permitted_enctypes = ${enctype}\n  allow_rc4 = true`),
      )
      expect(await logOn(path, 'web01$', { KRB5_CONFIG: conf })).toBe('')
    },
  )

  test('comes by the commands of the README, which print what it shows', async () => {
    const [first, ...others] = stepsOf(blocksOf(text('README.md')).at(2)?.text ?? '')
    const names = { 'client.crt': files.client.certificate, 'client.key': files.client.key, 'ca.crt': files.ca }
    for (const [name, path] of Object.entries(names)) await copyFile(path, join(directory, name))
    await copyFile(config(), join(directory, 'gmsa-account-provider.yaml'))
    const run = (command: string, ...more: readonly string[]) => {
      const [words = []] = commandsOf(`\`\`\`sh\n${command}\n\`\`\``, ['npm run -s cli --']).map((each) => each.words)
      return runCli([...words.slice(5), ...more], { cwd: directory })
    }
    const { stdout } = await run(first?.command ?? '', '--server', server)
    const shape = (said: string) => said.replace(/\d+ entries; kvno \d+(?:, \d+)*; HTTP\/.*$/s, '')
    expect(first?.follows).not.toBe('')
    expect([shape(stdout), shape(first?.follows ?? '')]).toEqual(['web01.keytab: ', 'web01.keytab: '])
    expect(others).toHaveLength(2)
    for (const { command } of others) expect(await run(command)).toMatchObject({ code: 0, stderr: '' })
  })

  test('K8, O3: keytab list shows what klist shows, and keys only when asked', async () => {
    const { path } = await getKeytab('web01', 'acceptor')
    const { stdout } = await runCli(['keytab', 'list', path])
    const { stdout: shown } = await domain.run('klist', ['-k', '-e', '-t', '-K', path])
    const theirs = [...shown.matchAll(/^ +(\d+) .* (\S+@\S+) \(([\w-]+)\) +\(0x([0-9a-f]+)\)/gm)]
    expect(theirs.length).toBeGreaterThan(1)
    for (const [, kvno, principal, enctype, key] of theirs) {
      expect(stdout).toMatch(new RegExp(`^ +${kvno} .*  ${RegExp.escape(principal ?? '')}  \\(${enctype}\\)$`, 'm'))
      expect(stdout).not.toContain(key)
    }
    const { stdout: withKeys } = await runCli(['keytab', 'list', '--show-keys', '--json', path])
    expect(new Set(JSON.parse(withKeys).map(({ key }: { key: string }) => key))).toEqual(
      new Set(theirs.map(([, , , , key]) => key)),
    )
  })

  test('a gMSA that svc-ccg may not read, and one that does not exist, leave no file', async () => {
    const { code, stderr, path } = await getKeytab('secret01', 'initiator')
    expect(code).toBe(1)
    expect(stderr).toMatch(/error: secret01: the service answers 502 STORE_DENIED/)
    await expect(stat(path)).rejects.toThrow(/ENOENT/)
    expect((await getKeytab('nobody', 'initiator')).stderr).toMatch(/404 ACCOUNT_NOT_FOUND/)
  })

  test.each([
    ['a wrong bind password', { bind: 'wrong' }, 'web01', /^failed +store .*\[bad-password\]/m, /hint: .*password/],
    ['an unknown CA', { ca: undefined }, 'web01', /^failed +store .*\[unknown-ca\]/m, /hint: .*CA/],
    ['a port that nobody listens on', { port: 1 }, 'web01', /^failed +store .*\[refused\]/m, /hint: .*port/],
    ['a port without TLS', { port: 389 }, 'web01', /^failed +store .*\[(?:refused|protocol)\]/m, /hint: .*ldaps 636/],
    ['an account that is not there', {}, 'ghost', /^failed +record .*ghost\$/m, /./],
    ['a disabled bind account', { state: { disabled: true } }, 'web01', /\[disabled\]/, /hint: .*userAccountControl/],
    ['an expired bind account', { state: { expired: true } }, 'web01', /\[expired\]/, /hint: .*accountExpires/],
    ['a locked bind account', { state: { locked: true } }, 'web01', /\[locked\]/, /hint: .*lockoutTime/],
    ['a password that must change', { state: { mustChange: true } }, 'web01', /\[must-change\]/, /hint: .*pwdLastSet/],
  ] as const)('doctor names %s', async (_what, change, account, said, hint) => {
    const written = JSON.parse(await readFile(config(), 'utf8'))
    const { ad } = written.providers
    if ('bind' in change) {
      const passwordFile = join(directory, 'wrong-password')
      await writeFile(passwordFile, 'not the password', { mode: 0o600 })
      ad.bind = { username: domain.ccg.username, domainName: domain.dns, passwordFile }
    } else if ('state' in change) {
      const passwordFile = join(directory, 'outsider-password')
      await writeFile(passwordFile, domain.outsider.password, { mode: 0o600 })
      await domain.setAccount(domain.outsider.username, change.state)
      ad.bind = { username: domain.outsider.username, domainName: domain.dns, passwordFile }
    } else Object.assign(ad, change)
    written.accounts.ghost = { provider: 'ad', samAccountName: 'ghost$' }
    const changed = join(directory, 'changed.json')
    await writeFile(changed, JSON.stringify(written))
    const { code, stdout } = await runCli(['doctor', account, '--config', changed])
    expect(stdout).toMatch(said)
    expect(stdout).toMatch(hint)
    expect(stdout).not.toContain('not the password')
    expect(stdout).not.toContain(domain.outsider.password)
    expect(code).toBe(1)
  })

  test('doctor names a certificate for another name', async () => {
    await using between = await relay(domain.ip, 'ldaps')
    const written = JSON.parse(await readFile(config(), 'utf8'))
    Object.assign(written.providers.ad, { servers: ['localhost'], port: between.port })
    const changed = join(directory, 'other-name.json')
    await writeFile(changed, JSON.stringify(written))
    const { code, stdout } = await runCli(['doctor', 'web01', '--config', changed])
    expect(stdout).toMatch(/^failed +store .*localhost: .*\[name-mismatch\]/m)
    expect(stdout).toMatch(/hint: use the name in the certificate/)
    expect(code).toBe(1)
  })

  test('doctor walks the chain of a gMSA, and says who may not read which attribute', async () => {
    const good = await runCli(['doctor', 'web01', '--config', config()])
    expect(good.stdout).toMatch(/^ok +record +managed password of web01\$, .*kvno \d+, from /m)
    expect(good.stdout).toMatch(/^ok +keys +aes256, aes128 under kvno \d+ for HTTP\/web01\./m)
    expect(good.code).toBe(0)
    const bad = await runCli(['doctor', 'secret01', '--config', config()])
    expect(bad.stdout).toMatch(/^failed +record .*\[not-permitted\]/m)
    expect(bad.stdout).toMatch(/hint: .*msDS-GroupMSAMembership/)
    expect(bad.code).toBe(1)
    const check = await runCli(['check', '--config', config()])
    expect(check.stdout).toMatch(/^ok +account sql01 +managed password of sql01\$/m)
    expect(check.stdout).toMatch(/^failed +account secret01 /m)
  })
})
