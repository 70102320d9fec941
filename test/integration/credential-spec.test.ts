import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { runCli } from '../fakes/cli.ts'
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
  async function search(base: string, filter: string, attribute: string): Promise<string> {
    const passwordFile = join(folder, 'admin-password')
    await writeFile(passwordFile, domain.admin.password, { mode: 0o600 })
    const login = ['-x', '-H', domain.ldapsUrl, '-D', `${domain.admin.username}@${domain.dns}`, '-y', passwordFile]
    const asked = ['-LLL', '-o', 'ldif-wrap=no', '-b', base, filter, attribute]
    const { stdout } = await domain.run('ldapsearch', [...login, ...asked])
    return new RegExp(`^${attribute}::? (.+)$`, 'm').exec(stdout)?.[1] ?? ''
  }

  test('hold what the directory says, in the order of the published samples', async () => {
    const { code, stdout, stderr } = await runCli(['credspec', 'web01', '--config', config])
    expect([code, stderr]).toEqual([0, ''])
    const sid = Buffer.from(await search(domain.base, '(objectClass=domainDNS)', 'objectSid'), 'base64')
    const numbers = Array.from({ length: 4 }, (_, index) => sid.readUInt32LE(8 + 4 * index))
    const guid = Buffer.from(await search(domain.base, '(objectClass=domainDNS)', 'objectGUID'), 'base64')
    const partitions = `CN=Partitions,CN=Configuration,${domain.base}`
    const netBios = await search(partitions, '(nETBIOSName=*)', 'nETBIOSName')
    expect(netBios).toBe(domain.netbios)
    const spec = JSON.parse(stdout)
    // The order counts for whoever compares documents as text.
    expect(JSON.stringify(spec.DomainJoinConfig)).toBe(
      JSON.stringify({
        Sid: `S-1-5-${numbers.join('-')}`,
        MachineAccountName: 'web01',
        Guid: [
          guid.subarray(0, 4).reverse().toString('hex'),
          guid.subarray(4, 6).reverse().toString('hex'),
          guid.subarray(6, 8).reverse().toString('hex'),
          guid.subarray(8, 10).toString('hex'),
          guid.subarray(10).toString('hex'),
        ].join('-'),
        DnsTreeName: domain.dns,
        DnsName: domain.dns,
        NetBiosName: netBios,
      }),
    )
    expect(spec.ActiveDirectoryConfig.HostAccountConfig.PluginInput).toBe('contoso-ad:svc-ccg')
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
