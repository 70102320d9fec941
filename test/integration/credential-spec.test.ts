import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { runCli } from '../fakes/cli.ts'
import { commandsOf } from '../house/markdown.ts'
import { text } from '../house/source.ts'
import { type Domain, startDomain } from '../lab/domain.ts'
import { needs } from '../lab/skip.ts'

describe.skipIf(!needs('samba', 'krb5', 'ldap-utils'))('credential specs of a real domain', () => {
  let domain: Domain
  let folder: string
  let config: string

  beforeAll(async () => {
    domain = await startDomain({ realm: 'random' })
    folder = await mkdtemp(join(tmpdir(), 'gmsa-credspec-'))
    config = join(folder, 'config.json')
    const secrets = join(folder, 'secrets')
    const { username, password } = domain.ccg
    const record = { username, password, domainName: domain.dns }
    await writeFile(join(folder, 'svc-ccg.json'), JSON.stringify(record), { mode: 0o600 })
    const ad = {
      type: 'active-directory',
      domain: domain.dns,
      servers: [domain.ip],
      ca: domain.ca,
      bind: { provider: 'local', account: 'svc-ccg' },
    }
    const tls = { certificate: 'none', key: 'none', clientCa: 'none' }
    await writeFile(
      config,
      JSON.stringify({
        tls,
        providers: { local: { type: 'file', directory: folder }, ad },
        accounts: { web01: { provider: 'ad', samAccountName: 'web01$' }, 'svc-ccg': { provider: 'local' } },
        ccg: { directory: secrets, namespace: 'contoso-ad', client: { certificate: 'none', key: 'none' } },
      }),
    )
  })
  afterAll(async () => {
    await domain?.[Symbol.asyncDispose]()
    await rm(folder, { recursive: true, force: true })
  })

  /** Values of one attribute, as OpenLDAP's client shows them: bytes in base64. */
  async function search(base: string, filter: string, attribute: string, scope = 'sub'): Promise<string> {
    const passwordFile = join(folder, 'admin-password')
    await writeFile(passwordFile, domain.admin.password, { mode: 0o600 })
    const login = ['-x', '-H', domain.ldapsUrl, '-D', `${domain.admin.username}@${domain.dns}`, '-y', passwordFile]
    const asked = ['-LLL', '-o', 'ldif-wrap=no', '-s', scope, '-b', base, filter, attribute]
    const { stdout } = await domain.run('ldapsearch', [...login, ...asked])
    return new RegExp(`^${attribute}::? (.+)$`, 'm').exec(stdout)?.[1] ?? ''
  }

  /**
   * What New-CredentialSpec of Microsoft's module CredentialSpec writes for web01: the members, and from where in the
   * directory Get-ADDomain has each. The module fills hash tables, which have no order: that of its published output
   * is taken. `host` stands for its switch for a plug-in (Azure's there), `also` for its additional accounts.
   */
  async function moduleDocument({ host, also = [] }: { host?: object; also?: readonly object[] } = {}) {
    const sid = Buffer.from(await search(domain.base, '(objectClass=domainDNS)', 'objectSid'), 'base64')
    const guid = Buffer.from(await search(domain.base, '(objectClass=domainDNS)', 'objectGUID'), 'base64')
    const partitions = `CN=Partitions,CN=Configuration,${domain.base}`
    const ofDomain = `(nCName=${domain.base})`
    const [dnsRoot, netBios] = [
      await search(partitions, ofDomain, 'dnsRoot'),
      await search(partitions, ofDomain, 'nETBIOSName'),
    ]
    const forest = await search('', '(objectClass=*)', 'rootDomainNamingContext', 'base')
    return {
      CmsPlugins: ['ActiveDirectory'],
      DomainJoinConfig: {
        Sid: `S-1-5-${[0, 1, 2, 3].map((index) => sid.readUInt32LE(8 + 4 * index)).join('-')}`,
        MachineAccountName: 'web01',
        // ConvertTo-Json writes a System.Guid in lower case, without braces.
        Guid: [
          guid.subarray(0, 4).reverse().toString('hex'),
          guid.subarray(4, 6).reverse().toString('hex'),
          guid.subarray(6, 8).reverse().toString('hex'),
          guid.subarray(8, 10).toString('hex'),
          guid.subarray(10).toString('hex'),
        ].join('-'),
        DnsTreeName: forest.replaceAll(/,?DC=/gi, '.').slice(1),
        DnsName: dnsRoot,
        NetBiosName: netBios,
      },
      ActiveDirectoryConfig: {
        GroupManagedServiceAccounts: [{ Name: 'web01', Scope: dnsRoot }, { Name: 'web01', Scope: netBios }, ...also],
        ...(host && { HostAccountConfig: host }),
      },
    }
  }

  const spec = async (...more: readonly string[]): Promise<unknown> => {
    const { code, stdout, stderr } = await runCli(['credspec', 'web01', '--config', config, ...more])
    expect([code, stderr]).toEqual([0, ''])
    return JSON.parse(stdout)
  }
  /** As text: the order counts for whoever compares documents so. */
  const same = (one: unknown, other: unknown) =>
    expect(JSON.stringify(one, null, 1)).toBe(JSON.stringify(other, null, 1))

  test("are, member by member, what Microsoft's module writes for hosts of the domain", async () => {
    const written = await moduleDocument()
    expect(written.DomainJoinConfig).toMatchObject({ DnsName: domain.dns, NetBiosName: domain.netbios })
    expect(written.DomainJoinConfig.Sid).toMatch(/^S-1-5-21-\d+-\d+-\d+$/)
    same(await spec('--no-host-account'), written)
  })

  test('have the form of the module for a plug-in, and for further accounts', async () => {
    const host = {
      PortableCcgVersion: '1',
      PluginGUID: '{E4781092-F116-4B79-B55E-28EB6A224E26}',
      PluginInput: 'contoso-ad:svc-ccg',
    }
    same(await spec(), await moduleDocument({ host }))
    const also = [{ Name: 'sql01', Scope: 'other.test' }]
    same(await spec('--also', 'sql01$@other.test'), await moduleDocument({ host, also }))
  })

  test('go to a file for Kubernetes, and pass what judges them, against the directory too', async () => {
    const file = join(folder, 'web01.yaml')
    const options = ['--format', 'kubernetes', '--name', 'web01-spec', '--also', 'sql01$@other.test', '-o', file]
    expect(await runCli(['credspec', 'web01', '--config', config, ...options])).toMatchObject({ code: 0, stderr: '' })
    const judged = await runCli(['check', '--credspec', file])
    expect(judged.stdout).toMatch(/^ok +credential spec /)
    expect(judged.code).toBe(0)
    const compared = await runCli(['doctor', 'web01', '--config', config, '--credspec', file])
    expect(compared.stdout).toMatch(/^ok +credential spec +.*as the directory has it$/m)
    await writeFile(file, (await readFile(file, 'utf8')).replace(/Sid: (\S+)\d/, 'Sid: $1'))
    const other = await runCli(['doctor', 'web01', '--config', config, '--credspec', file])
    expect(other.stdout).toMatch(/^failed +credential spec +DomainJoinConfig\.Sid the directory says S-1-5-21-/m)
  })

  test('are written and judged by the commands of their page', async () => {
    const page = commandsOf(text('docs/credential-specs.md'), ['gmsa-account-provider'])
    await writeFile(join(folder, 'config.yaml'), await readFile(config))
    expect(page.map(({ words }) => words[1])).toEqual(['credspec', 'credspec', 'check'])
    for (const { words } of page) {
      expect(await runCli(words.slice(1), { cwd: folder })).toMatchObject({ code: 0, stderr: '' })
    }
  })

  test.each([
    ['a password in the input', ['--plugin-input', 'ad:svc:Kanari'], /does not belong here/],
    ['an account that there is not', ['--name', 'x'], /no such account/],
  ])('are refused with %s, and nothing is written', async (what, more, said) => {
    const account = what.startsWith('an account') ? 'nobody' : 'web01'
    const { code, stdout, stderr } = await runCli(['credspec', account, '--config', config, ...more])
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(said)
    expect(stderr).not.toContain('Kanari')
  })

  test('ask no plug-in for hosts of the domain', async () => {
    const { stdout } = await runCli([
      'credspec',
      'web01',
      '--config',
      config,
      '--no-host-account',
      '--format',
      'kubernetes',
    ])
    expect(parse(stdout).credspec.ActiveDirectoryConfig).not.toHaveProperty('HostAccountConfig')
  })

  test('of an account in a store that is no directory are refused', async () => {
    const { code, stderr } = await runCli(['credspec', 'svc-ccg', '--config', config, '--plugin-input', 'a:b'])
    expect(code).toBe(1)
    expect(stderr).toMatch(/provider local is no directory/)
  })
})
