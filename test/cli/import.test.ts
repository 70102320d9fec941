import { X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readAgentConfig } from '../../src/cli/agent-config.ts'
import { loadConfig } from '../../src/cli/config.ts'
import { importEcs } from '../../src/cli/import/ecs.ts'
import { importGmsad } from '../../src/cli/import/gmsad.ts'
import { parseIni, splitWords } from '../../src/cli/import/ini.ts'
import { runCli } from '../fakes/cli.ts'

const GMSAD = `
[gmsad]
loglevel = WARNING
check_interval: 30

; two services of one domain, and a client of another
[Web Server]
principal = HOST1$@AD.TEST
keytab = /etc/krb5.keytab
gMSA_sAMAccountName = web01$
gMSA_domain = AD.TEST
gMSA_keytab = /etc/httpd/web01.keytab
gMSA_servicePrincipalNames = HTTP/web01.ad.test,
  HTTP/web01
gMSA_upn_in_keytab = yes
gMSA_enctypes = 24
host = dc1.ad.test
tls_ca_certs_file = /etc/ssl/ad.pem
tls_valid_names = dc1
ldap_auto_bind = TLS_BEFORE_BIND
on_spn_rotate_cmd = sudo systemctl reload "the server" --it\\'s
on_upn_rotate_cmd = /bin/true 100%%

[sql]
principal = HOST1$@AD.TEST
keytab = /etc/krb5.keytab
gMSA_sAMAccountName = sql01$
gMSA_domain = AD.TEST
gMSA_keytab = /etc/sql.keytab
gMSA_servicePrincipalNames = MSSQLSvc/sql01.ad.test
gMSA_enctypes = 16
gMSA_salt = AD.TESThostold.ad.test
host = dc1.ad.test
tls_ca_certs_file = /etc/ssl/ad.pem
ldap_auto_bind = TLS_AFTER_BIND

[backup]
principal = HOST1$@OTHER.TEST
keytab = /etc/krb5.keytab
gMSA_sAMAccountName = backup$
gMSA_domain = other.test
gMSA_keytab = /etc/backup.keytab
gMSA_salt_from_heuristic = no
gMSA_enctypes = 28
ldap_auto_bind = NO_TLS
gMSA_color = blue
`

describe('M1: import gmsad', () => {
  let directory: string
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'gmsa-import-'))
  })
  afterEach(() => rm(directory, { recursive: true, force: true }))

  test('M1: accounts, files, principals and hooks are carried over', () => {
    const { service, agent } = importGmsad(GMSAD)
    const bind = { provider: 'local', account: 'gmsa-reader' }
    expect(service).toMatchObject({
      providers: {
        local: { type: 'file', directory: 'secrets' },
        'ad-test': {
          type: 'active-directory',
          domain: 'ad.test',
          servers: ['dc1.ad.test'],
          transport: 'starttls',
          ca: '/etc/ssl/ad.pem',
          bind,
        },
        'other-test': { type: 'active-directory', domain: 'other.test', bind },
      },
      accounts: {
        'web-server': {
          provider: 'ad-test',
          samAccountName: 'web01$',
          servicePrincipalNames: ['HTTP/web01.ad.test', 'HTTP/web01'],
        },
        sql: { provider: 'ad-test', enctypes: ['aes256'], salt: 'AD.TESThostold.ad.test' },
        backup: { provider: 'other-test', samAccountName: 'backup$' },
      },
      clients: [{ match: { commonName: 'gmsa-agent' }, allow: ['keytab'], accounts: ['web-server', 'sql', 'backup'] }],
    })
    expect(agent).toMatchObject({
      log: { level: 'warn' },
      accounts: {
        'web-server': {
          acceptorKeytab: {
            file: '/etc/httpd/web01.keytab',
            onChange: { command: ['sudo', 'systemctl', 'reload', 'the server', "--it's"] },
          },
          initiatorKeytab: { file: '/etc/httpd/web01.keytab', onChange: { command: ['/bin/true', '100%'] } },
        },
        sql: { acceptorKeytab: { file: '/etc/sql.keytab' } },
        backup: { initiatorKeytab: { file: '/etc/backup.keytab' } },
      },
    })
    expect(Object.keys(Object(service['accounts'])['sql'])).not.toContain('initiatorKeytab')
  })

  test('M1: what can’t be carried over is named with its line, and what to do', () => {
    const { notes } = importGmsad(GMSAD)
    const said = notes.map(({ option, line, advice }) => `${line} ${option}: ${advice}`).join('\n')
    const lineOf = (text: string) => GMSAD.split('\n').findIndex((line) => line.startsWith(text)) + 1
    expect(said).toMatch(new RegExp(`^${lineOf('check_interval')} \\[gmsad\\] check_interval: `, 'm'))
    expect(said).toMatch(
      new RegExp(`^${lineOf('principal')} \\[Web Server\\] principal: .*create an ordinary user`, 'm'),
    )
    expect(said).toMatch(/\[Web Server\] tls_valid_names: /)
    expect(said).toMatch(/\[backup\] ldap_auto_bind: .*LDAPS/)
    expect(said).toMatch(/\[backup\] gMSA_enctypes: only 8 /)
    expect(said).toMatch(/\[backup\] gMSA_salt_from_heuristic: /)
    expect(said).toMatch(new RegExp(`^${lineOf('gMSA_color')} \\[backup\\] gMSA_color: not an option of gmsad`, 'm'))
  })

  test('M1: each option of gmsad has a place in what is written, or a note', () => {
    const values: Readonly<Record<string, string>> = {
      principal: 'HOST$@X.TEST',
      keytab: '/k',
      gMSA_sAMAccountName: 'name1$',
      gMSA_domain: 'dom.test',
      gMSA_keytab: '/files/keytab',
      gMSA_servicePrincipalNames: 'HTTP/spn',
      gMSA_upn_in_keytab: 'yes',
      gMSA_enctypes: '8',
      gMSA_salt: 'the salt',
      host: 'dc9.dom.test',
      tls_ca_certs_file: '/files/ca',
      tls_valid_names: 'names',
      ldap_auto_bind: 'NONE',
      on_spn_rotate_cmd: 'spn-hook',
      on_upn_rotate_cmd: 'upn-hook',
    }
    const text = Object.entries(values).map(([name, value]) => `${name} = ${value}`)
    const { service, agent, notes } = importGmsad(
      ['[gmsad]', 'loglevel = DEBUG', 'check_interval = 60', '[one]', ...text].join('\n'),
    )
    const written = JSON.stringify([service, agent])
    for (const [name, value] of [...Object.entries(values), ['loglevel', 'debug'], ['check_interval', '60']] as const) {
      const place = written.includes(value) || notes.some(({ option }) => option.endsWith(` ${name}`))
      if (name !== 'gMSA_upn_in_keytab' && name !== 'gMSA_enctypes') expect(place, name).toBe(true)
    }
    expect(written).toContain('"enctypes":["aes128"]')
    expect(written).toContain('"initiatorKeytab":{"file":"/files/keytab"')
  })

  test('M1: the written files are valid configurations of ours', async () => {
    const file = join(directory, 'gmsad.conf')
    await writeFile(file, GMSAD)
    const { code, stdout, stderr } = await runCli(['import', 'gmsad', file, '--output', directory])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toContain(`${directory}/agent.yaml written\n`)
    expect(stdout).toMatch(new RegExp(`^${RegExp.escape(file)}:\\d+: \\[backup\\] gMSA_color: `, 'm'))
    const service = await loadConfig({ file: join(directory, 'gmsa-account-provider.yaml'), env: {}, cwd: '/' })
    expect(service).toMatchObject({ ok: true, warnings: [] })
    const agent = await readAgentConfig(join(directory, 'agent.yaml'), '/')
    expect(agent).toMatchObject({ ok: true })
    if (!agent.ok) return
    expect(agent.config.disabled.size).toBe(0)
    expect(agent.config.outputs.map(({ name, kind, file: path }) => `${name} ${kind} ${path}`)).toEqual([
      'web-server acceptor /etc/httpd/web01.keytab',
      'web-server initiator /etc/httpd/web01.keytab',
      'sql acceptor /etc/sql.keytab',
      'backup initiator /etc/backup.keytab',
    ])
    const again = await runCli(['import', 'gmsad', file, '--output', directory])
    expect(again.code).toBe(1)
    expect(again.stderr).toMatch(/gmsa-account-provider\.yaml: there already\n.*hint: .*--force/)
    const before = await readFile(join(directory, 'agent.yaml'), 'utf8')
    expect((await runCli(['import', 'gmsad', file, '--output', directory, '--force'])).code).toBe(0)
    expect(await readFile(join(directory, 'agent.yaml'), 'utf8')).toBe(before)
  })

  test.each([
    ['an empty file', ''],
    ['a section without what is needed', '[x]\ngMSA_domain = ad.test\n'],
    ['no sections', 'gMSA_domain = ad.test\n'],
    [
      'two labels that come out the same',
      '[A b]\ngMSA_sAMAccountName=a$\ngMSA_domain=a.test\ngMSA_keytab=/a\n[a-b]\ngMSA_sAMAccountName=b$\ngMSA_domain=a.test\ngMSA_keytab=/b\n',
    ],
    [
      'an open quote in a command',
      '[a]\ngMSA_sAMAccountName=a$\ngMSA_domain=a.test\ngMSA_keytab=/a\non_upn_rotate_cmd=echo "x\n',
    ],
  ])('M1: %s is no surprise', (_what, text) => {
    const { service, notes } = importGmsad(text)
    const accounts = Object.keys(Object(service['accounts']))
    expect(accounts).toEqual(text.includes('[A b]') ? ['a-b', 'a-b-2'] : text.includes('[a]') ? ['a'] : [])
    expect(notes.length).toBeGreaterThan(0)
  })

  test('M1: the name that the note tells for a trial is that of the certificate made so', async () => {
    const file = join(directory, 'gmsad.conf')
    await writeFile(file, GMSAD)
    const { stdout } = await runCli(['import', 'gmsad', file, '--output', directory])
    const [, name] = /for a trial: .* its client's name, ([\w-]+), goes into clients/.exec(stdout) ?? []
    expect((await runCli(['certs', join(directory, 'certs')])).code).toBe(0)
    const { subject } = new X509Certificate(await readFile(join(directory, 'certs/client/tls.crt')))
    expect(subject.split('\n')).toContain(`CN=${name}`)
  })

  test('M1: a folder that is not there is made; one that can not be is an error that says so', async () => {
    const file = join(directory, 'gmsad.conf')
    await writeFile(file, GMSAD)
    const folder = join(directory, 'a', 'b')
    expect((await runCli(['import', 'gmsad', file, '--output', folder])).code).toBe(0)
    expect(await readFile(join(folder, 'agent.yaml'), 'utf8')).toContain('web01')
    const { code, stderr } = await runCli(['import', 'gmsad', file, '--output', join(file, 'x')])
    expect(code).toBe(1)
    expect(stderr).toBe(`gmsa-account-provider: error: ${file}/x: can't be written (ENOTDIR)\n`)
  })

  test('M1: a file that is not there, or too large, is an error that says so', async () => {
    const missing = await runCli(['import', 'gmsad', join(directory, 'none')])
    expect(missing.code).toBe(1)
    expect(missing.stderr).toContain("can't be read (ENOENT)")
  })
})

const ECS = `# an instance of ECS
ECS_CLUSTER=web
ECS_GMSA_SUPPORTED=true

CREDENTIALS_FETCHER_SECRET_NAME_FOR_DOMAINLESS_GMSA=arn:aws:secretsmanager:eu-central-1:123456789012:secret:gmsa-reader
DOMAIN_CONTROLLER_GMSA=dc1.ad.test
CF_GMSA_DISTINGUISHED_NAME=CN=web01,OU=gMSA,DC=ad,DC=test
export CF_CRED_SPEC_FILE=/etc/spec.json:lease1
CF_KRB5CC_MODE=0640
CF_KRB5CC_GID=1654
LDAPSearchTimeout = 7
RunRenewalNonDomainJoined = true
credentials_fetcher_mode = config_file_mode
CF_GMSA_COLOR=blue
nonsense
`
const spec = (more: object = {}) =>
  JSON.stringify({
    CmsPlugins: ['ActiveDirectory'],
    DomainJoinConfig: { DnsName: 'AD.test', NetBiosName: 'AD' },
    ActiveDirectoryConfig: {
      GroupManagedServiceAccounts: [
        { Name: '', Scope: 'AD' },
        { Name: 'web01$', Scope: 'ad.test' },
      ],
      ...more,
    },
  })
const reading = (text: string | undefined) => async (path: string) =>
  path === '/etc/spec.json' && text !== undefined ? Buffer.from(text) : undefined

describe('M2: import ecs', () => {
  test('M2: directory, secret, account and ticket are carried over', async () => {
    const { service, agent } = await importEcs(ECS, reading(`\uFEFF${spec()}`))
    expect(service).toMatchObject({
      providers: {
        asm: { type: 'aws-secrets-manager', region: 'eu-central-1' },
        ad: {
          type: 'active-directory',
          domain: 'ad.test',
          servers: ['dc1.ad.test'],
          searchBase: 'CN=web01,OU=gMSA,DC=ad,DC=test',
          timeout: '7s',
          bind: { provider: 'asm', account: expect.stringContaining('secret:gmsa-reader') },
        },
      },
      accounts: { web01: { provider: 'ad', samAccountName: 'web01$' } },
    })
    expect(agent).toMatchObject({
      leases: { directory: '/var/credentials-fetcher/krbdir' },
      accounts: { web01: { ccache: { lease: 'lease1', mode: '0640', group: 1654 } } },
    })
  })

  test('M2: every name that is not carried over is in the notes, with its line', async () => {
    const { notes } = await importEcs(ECS, reading(spec()))
    const named = notes.map(({ option }) => option)
    const others = [
      'ECS_CLUSTER',
      'ECS_GMSA_SUPPORTED',
      'RunRenewalNonDomainJoined',
      'credentials_fetcher_mode',
      'CF_GMSA_COLOR',
      'line',
    ]
    expect(named).toEqual(expect.arrayContaining(others))
    for (const option of others.slice(0, -1)) {
      const line = ECS.split('\n').findIndex((each) => each.startsWith(option)) + 1
      expect(notes.find((note) => note.option === option)?.line, option).toBe(line)
    }
    for (const carried of ['DOMAIN_CONTROLLER_GMSA', 'CF_KRB5CC_MODE', 'LDAPSearchTimeout'])
      expect(named).not.toContain(carried)
  })

  test('M2: the secret may stand in the credential spec, and without any a user has to be made', async () => {
    const arn = 'arn:aws:secretsmanager:us-east-1:1:secret:in-spec'
    const inSpec = spec({ HostAccountConfig: { PluginInput: { CredentialArn: arn } } })
    const { service } = await importEcs('CF_CRED_SPEC_FILE=/etc/spec.json', reading(inSpec))
    expect(service).toMatchObject({ providers: { asm: { region: 'us-east-1' }, ad: { bind: { account: arn } } } })
    const without = await importEcs('CF_CRED_SPEC_FILE=/etc/spec.json', reading(spec()))
    expect(without.service).toMatchObject({
      providers: { local: { type: 'file' }, ad: { bind: { account: 'gmsa-reader' } } },
    })
    expect(without.notes.map(({ advice }) => advice).join()).toContain('create an ordinary user (here gmsa-reader)')
    expect(without.agent).toMatchObject({
      accounts: { web01: { ccache: { lease: 'credspec' } } },
    })
  })

  test.each([
    ['no file', undefined, 'no credential spec to read'],
    ['no JSON', '{"a":\n"Kanari"', '/etc/spec.json:2:9: neither JSON nor YAML'],
    [
      'no domain',
      '{"ActiveDirectoryConfig":{"GroupManagedServiceAccounts":[{"Name":"a"}]}}',
      'DomainJoinConfig.DnsName',
    ],
    ['no gMSA', '{"DomainJoinConfig":{"DnsName":"ad.test"}}', 'ActiveDirectoryConfig.GroupManagedServiceAccounts'],
  ])('P1, M2: a credential spec with %s is named by the place, and what to set by hand', async (_what, text, place) => {
    const { notes } = await importEcs('CF_CRED_SPEC_FILE=/etc/spec.json', reading(text))
    const advice = expect.stringMatching(RegExp(`${RegExp.escape(place)}.*: set `))
    expect(notes.find(({ option }) => option === 'CF_CRED_SPEC_FILE')).toMatchObject({ line: 1, advice })
    expect(JSON.stringify(notes)).not.toContain('Kanari')
  })

  const hostAccount = (guid: string, input: unknown) => ({
    HostAccountConfig: { PluginGUID: guid, PluginInput: input },
  })
  const ECS_GUID = '{859E1386-BDB4-49E8-85C7-3070B13920E1}'
  const arn = 'arn:aws:secretsmanager:us-east-1:1:secret:reader'

  test.each<[string, unknown, string | undefined]>([
    ['an object with an ARN', hostAccount(ECS_GUID, { CredentialArn: arn }), arn],
    ['a text for the same plug-in', hostAccount(ECS_GUID.toLowerCase(), 'gmsa-reader-secret'), 'gmsa-reader-secret'],
    ['an object without one', hostAccount(ECS_GUID, { other: 'pa55-Kanari' }), undefined],
    ["another plug-in's text", hostAccount('{CCC2A336-D7F3-4818-A213-272B7924213E}', 'a:b:pa55-Kanari'), undefined],
  ])('P1: PluginInput may be %s', async (_what, more, secret) => {
    const { service, notes } = await importEcs('CF_CRED_SPEC_FILE=/etc/spec.json', reading(spec(Object(more))))
    expect(Object(service['providers']).ad.bind.account).toBe(secret ?? 'gmsa-reader')
    const said = notes.filter(({ advice }) =>
      advice.startsWith('/etc/spec.json: ActiveDirectoryConfig.HostAccountConfig'),
    )
    expect(said).toHaveLength(secret === undefined ? 1 : 0)
    expect(JSON.stringify(notes)).not.toContain('Kanari')
  })

  test('P1: byte order marks, a $ and several names are no hindrance; another gMSA is named', async () => {
    const both = spec({ GroupManagedServiceAccounts: [{ Name: 'Web01$' }, { Name: 'web01' }, { Name: 'sql01$' }] })
    for (const bytes of [Buffer.from(`\uFEFF${both}`), Buffer.from(`\uFEFF${both}`, 'utf16le')]) {
      const { service, agent, notes } = await importEcs('CF_CRED_SPEC_FILE=/etc/spec.json', async () => bytes)
      expect(service['accounts']).toMatchObject({ web01: { samAccountName: 'Web01$' } })
      expect(agent['accounts']).toEqual({ web01: { ccache: { lease: 'credspec', gmsa: 'Web01' } } })
      const others = notes.filter(({ advice }) => advice.includes('another gMSA'))
      expect(others.map(({ advice }) => advice)).toEqual([expect.stringContaining('GroupManagedServiceAccounts[2]')])
    }
  })

  test('T4: a lease whose name is none is replaced, and that is said with its line', async () => {
    const { agent, notes } = await importEcs('CF_CRED_SPEC_FILE=/etc/spec.json:../x', reading(spec()))
    expect(agent['accounts']).toEqual({ web01: { ccache: { lease: 'credspec' } } })
    expect(notes).toContainEqual(
      expect.objectContaining({ line: 1, advice: expect.stringContaining('name of its lease') }),
    )
  })

  test('M2: the written files are valid configurations of ours, where the user is in a file', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'gmsa-import-'))
    try {
      await writeFile(join(directory, 'spec.json'), spec())
      const file = join(directory, 'ecs.config')
      await writeFile(file, `CF_CRED_SPEC_FILE=${join(directory, 'spec.json')}\n`)
      const { code, stderr } = await runCli(['import', 'ecs', file, '-o', directory])
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      expect(
        await loadConfig({ file: join(directory, 'gmsa-account-provider.yaml'), env: {}, cwd: '/' }),
      ).toMatchObject({ ok: true })
      const agent = await readAgentConfig(join(directory, 'agent.yaml'), '/')
      expect(agent).toMatchObject({ ok: true, config: { outputs: [{ kind: 'ccache', name: 'web01', mode: 0o600 }] } })
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })
})

describe('INI files', () => {
  test('no text is too odd to read', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('[', ']', '=', ':', '#', ' ', '\n', 'a', '%', '"') }), (text) => {
        const { settings, strays } = parseIni(text)
        for (const { line } of settings) expect(line).toBeLessThanOrEqual(text.split('\n').length)
        expect(new Set(strays).size).toBe(strays.length)
      }),
    )
  })

  test.each([
    ['a b', ['a', 'b']],
    ['  a\tb  ', ['a', 'b']],
    [`'a b' "c d"`, ['a b', 'c d']],
    [`a'b'"c"d`, ['abcd']],
    [`"a\\"b\\\\" '\\'`, ['a"b\\', '\\']],
    ['a\\ b', ['a b']],
    [`''`, ['']],
    ['', []],
    [`"a`, undefined],
    ['a\\', undefined],
  ])('a command line: %s', (text, words) => {
    expect(splitWords(text)).toEqual(words)
  })
})
