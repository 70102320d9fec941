import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { type CredentialSpecInput, makeCredentialSpec, RANCHER_PLUGIN } from '../../src/gmsa/credential-spec.ts'
import { compareWithDomain, judgeCredentialSpec } from '../../src/gmsa/credential-spec-check.ts'
import { formatCredentialSpec } from '../../src/server/credential-spec-text.ts'

const domain = {
  sid: 'S-1-5-21-2554468230-2647958158-2204241789',
  guid: '8665abd4-e947-4dd0-9a51-f8254943c90b',
  dnsName: 'eu.contoso.com',
  dnsTreeName: 'contoso.com',
  netBiosName: 'CONTOSO-EU',
}
const input: CredentialSpecInput = {
  domain,
  samAccountName: 'web01$',
  hostAccount: { pluginGuid: RANCHER_PLUGIN, pluginInput: 'contoso-ad:svc-ccg' },
}
const good = makeCredentialSpec(input)

describe('a credential spec', () => {
  test('has the members and the order of the published samples', () => {
    expect(formatCredentialSpec(good, 'docker', 'web01')).toBe(`{
  "CmsPlugins": [
    "ActiveDirectory"
  ],
  "DomainJoinConfig": {
    "Sid": "S-1-5-21-2554468230-2647958158-2204241789",
    "MachineAccountName": "web01",
    "Guid": "8665abd4-e947-4dd0-9a51-f8254943c90b",
    "DnsTreeName": "contoso.com",
    "DnsName": "eu.contoso.com",
    "NetBiosName": "CONTOSO-EU"
  },
  "ActiveDirectoryConfig": {
    "GroupManagedServiceAccounts": [
      {
        "Name": "web01",
        "Scope": "eu.contoso.com"
      },
      {
        "Name": "web01",
        "Scope": "CONTOSO-EU"
      }
    ],
    "HostAccountConfig": {
      "PortableCcgVersion": "1",
      "PluginGUID": "{E4781092-F116-4B79-B55E-28EB6A224E26}",
      "PluginInput": "contoso-ad:svc-ccg"
    }
  }
}
`)
  })

  test('is wrapped in a manifest for Kubernetes, every leaf a text', () => {
    const manifest = parse(formatCredentialSpec(good, 'kubernetes', 'web01-spec'))
    expect(manifest).toEqual({
      apiVersion: 'windows.k8s.io/v1',
      kind: 'GMSACredentialSpec',
      metadata: { name: 'web01-spec' },
      credspec: good,
    })
    expect(typeof manifest.credspec.ActiveDirectoryConfig.HostAccountConfig.PortableCcgVersion).toBe('string')
  })

  test('names no plug-in where the hosts are members of the domain', () => {
    expect(makeCredentialSpec({ domain, samAccountName: 'web01$' }).ActiveDirectoryConfig).not.toHaveProperty(
      'HostAccountConfig',
    )
  })

  test('takes braces or adds them, drops one $, and lists further gMSAs last', () => {
    const spec = makeCredentialSpec({
      ...input,
      hostAccount: { pluginGuid: `{${RANCHER_PLUGIN}}`, pluginInput: 'a:b' },
      additionalAccounts: [{ name: 'web02$', scope: 'contoso.com' }],
    })
    expect(spec.ActiveDirectoryConfig.HostAccountConfig?.PluginGUID).toBe(`{${RANCHER_PLUGIN}}`)
    expect(spec.ActiveDirectoryConfig.GroupManagedServiceAccounts.at(-1)).toEqual({
      Name: 'web02',
      Scope: 'contoso.com',
    })
  })
})

type Mutable = Record<string, Record<string, unknown>>
/** The good spec, changed. */
function changed(
  change: (spec: {
    spec: Record<string, unknown>
    domain: Record<string, unknown>
    directory: Record<string, unknown>
    host: Record<string, unknown>
  }) => unknown,
): unknown {
  const spec: Mutable = JSON.parse(JSON.stringify(good))
  const { DomainJoinConfig: domain = {}, ActiveDirectoryConfig: directory = {} } = spec
  const host = directory['HostAccountConfig'] as Record<string, unknown>
  change({ spec, domain, directory, host })
  return spec
}

describe('judging a credential spec', () => {
  test('finds nothing in a good one, nor in its manifest', () => {
    expect(judgeCredentialSpec(good)).toEqual([])
    expect(judgeCredentialSpec(parse(formatCredentialSpec(good, 'kubernetes', 'web01')))).toEqual([])
    expect(judgeCredentialSpec(makeCredentialSpec({ domain, samAccountName: 'web01$' }))).toEqual([])
  })

  test.each<[string, Parameters<typeof changed>[0], string, RegExp]>([
    [
      'no braces',
      ({ host }) => Object.assign(host, { PluginGUID: RANCHER_PLUGIN }),
      'ActiveDirectoryConfig.HostAccountConfig.PluginGUID',
      /lacks its braces/,
    ],
    [
      'one brace',
      ({ host }) => Object.assign(host, { PluginGUID: `{${RANCHER_PLUGIN}` }),
      'ActiveDirectoryConfig.HostAccountConfig.PluginGUID',
      /lacks its braces/,
    ],
    [
      'no GUID',
      ({ host }) => Object.assign(host, { PluginGUID: '{GDMA0342-266A-4D1P-831J-20990E82944F}' }),
      'ActiveDirectoryConfig.HostAccountConfig.PluginGUID',
      /expected a GUID/,
    ],
    [
      'a password',
      ({ host }) => Object.assign(host, { PluginInput: 'contoso.com:svc:pa55-Kanari' }),
      'ActiveDirectoryConfig.HostAccountConfig.PluginInput',
      /looks like domain:user:password/,
    ],
    [
      'a password after a user of the old form',
      ({ host }) => Object.assign(host, { PluginInput: 'CONTOSO\\svc:pa55-Kanari' }),
      'ActiveDirectoryConfig.HostAccountConfig.PluginInput',
      /looks like domain\\user:password/,
    ],
    [
      'a password after a principal',
      ({ host }) => Object.assign(host, { PluginInput: 'svc@contoso.com:pa55-Kanari' }),
      'ActiveDirectoryConfig.HostAccountConfig.PluginInput',
      /looks like user@domain:password/,
    ],
    [
      'an input that is no name',
      ({ host }) => Object.assign(host, { PluginInput: 'contoso-ad/svc' }),
      'ActiveDirectoryConfig.HostAccountConfig.PluginInput',
      /expected <namespace>:<account>/,
    ],
    [
      'a number for the version',
      ({ host }) => Object.assign(host, { PortableCcgVersion: 1 }),
      'ActiveDirectoryConfig.HostAccountConfig.PortableCcgVersion',
      /expected the text "1"/,
    ],
    [
      "the gMSA's SID",
      ({ domain: its }) => Object.assign(its, { Sid: `${domain.sid}-1105` }),
      'DomainJoinConfig.Sid',
      /SID of an account/,
    ],
    [
      'no SID at all',
      ({ domain: its }) => Object.assign(its, { Sid: 'contoso' }),
      'DomainJoinConfig.Sid',
      /expected the SID of the domain/,
    ],
    [
      'a GUID in braces',
      ({ domain: its }) => Object.assign(its, { Guid: `{${domain.guid}}` }),
      'DomainJoinConfig.Guid',
      /without braces/,
    ],
    [
      'a NetBIOS name for the DNS name',
      ({ domain: its }) => Object.assign(its, { DnsName: 'CONTOSO' }),
      'DomainJoinConfig.DnsName',
      /expected a DNS name/,
    ],
    [
      'a DNS name for the NetBIOS name',
      ({ domain: its }) => Object.assign(its, { NetBiosName: 'eu.contoso.com' }),
      'DomainJoinConfig.NetBiosName',
      /expected a NetBIOS name/,
    ],
    [
      'a $',
      ({ domain: its }) => Object.assign(its, { MachineAccountName: 'web01$' }),
      'DomainJoinConfig.MachineAccountName',
      /ends in \$/,
    ],
    [
      'a name that is too long',
      ({ domain: its }) => Object.assign(its, { MachineAccountName: 'x'.repeat(16) }),
      'DomainJoinConfig.MachineAccountName',
      /more than 15/,
    ],
    [
      'a missing member',
      ({ domain: its }) => Reflect.deleteProperty(its, 'DnsTreeName'),
      'DomainJoinConfig.DnsTreeName',
      /is missing/,
    ],
    [
      'a member in other case',
      ({ domain: its }) => Object.assign(its, { NetBIOSName: 'X' }),
      'DomainJoinConfig.NetBIOSName',
      /is not a member/,
    ],
    [
      'a missing NetBIOS scope',
      ({ directory }) => (directory['GroupManagedServiceAccounts'] as unknown[]).pop(),
      'ActiveDirectoryConfig.GroupManagedServiceAccounts',
      /Scope is the NetBIOS name/,
    ],
    [
      'a missing DNS scope',
      ({ directory }) => (directory['GroupManagedServiceAccounts'] as unknown[]).shift(),
      'ActiveDirectoryConfig.GroupManagedServiceAccounts',
      /Scope is the DNS name/,
    ],
    [
      'another account',
      ({ domain: its }) => Object.assign(its, { MachineAccountName: 'web02' }),
      'ActiveDirectoryConfig.GroupManagedServiceAccounts',
      /lacks the account/,
    ],
    [
      'no accounts',
      ({ directory }) => Object.assign(directory, { GroupManagedServiceAccounts: [] }),
      'ActiveDirectoryConfig.GroupManagedServiceAccounts',
      /expected a list/,
    ],
    [
      'an account that is a text',
      ({ directory }) => Object.assign(directory, { GroupManagedServiceAccounts: ['web01'] }),
      'ActiveDirectoryConfig.GroupManagedServiceAccounts[0]',
      /expected Name and Scope/,
    ],
    ['no plug-ins', ({ spec }) => Reflect.deleteProperty(spec, 'CmsPlugins'), 'CmsPlugins', /expected the list/],
    ['no domain', ({ spec }) => Reflect.deleteProperty(spec, 'DomainJoinConfig'), 'DomainJoinConfig', /is missing/],
    [
      'no directory',
      ({ spec }) => Reflect.deleteProperty(spec, 'ActiveDirectoryConfig'),
      'ActiveDirectoryConfig',
      /is missing/,
    ],
    ['a stranger', ({ spec }) => Object.assign(spec, { Foo: 1 }), 'Foo', /is not a member/],
  ])('finds %s', (_, change, path, problem) => {
    const problems = judgeCredentialSpec(changed(change))
    expect(problems.map((each) => each.path)).toContain(path)
    expect(problems.find((each) => each.path === path)?.problem).toMatch(problem)
    expect(JSON.stringify(problems)).not.toContain('Kanari')
  })

  test.each<[string, unknown, string]>([
    ['nothing', undefined, ''],
    ['a list', [], ''],
    [
      'a manifest of another kind',
      { apiVersion: 'windows.k8s.io/v1', kind: 'Pod', metadata: { name: 'x' }, credspec: good },
      'kind',
    ],
    [
      'an old manifest',
      { apiVersion: 'windows.k8s.io/v1alpha1', kind: 'GMSACredentialSpec', metadata: { name: 'x' }, credspec: good },
      'apiVersion',
    ],
    [
      'a manifest without name',
      { apiVersion: 'windows.k8s.io/v1', kind: 'GMSACredentialSpec', credspec: good },
      'metadata.name',
    ],
    [
      'a manifest without spec',
      { apiVersion: 'windows.k8s.io/v1', kind: 'GMSACredentialSpec', metadata: { name: 'x' } },
      'credspec',
    ],
  ])('finds %s', (_, document, path) => {
    expect(judgeCredentialSpec(document).map((each) => each.path)).toEqual([path])
  })

  test.each<[string, string, unknown, boolean]>([
    ['Azure', 'CCC2A336-D7F3-4818-A213-272B7924213E', 'ObjectId=1;SecretUri=https://v/secrets/x', true],
    ['Azure', 'CCC2A336-D7F3-4818-A213-272B7924213E', 'SecretUri=https://v/secrets/x', false],
    ['Amazon', '859E1386-BDB4-49E8-85C7-3070B13920E1', { CredentialArn: 'arn:aws:x' }, true],
    ['Amazon', '859E1386-BDB4-49E8-85C7-3070B13920E1', {}, false],
    ['an unknown plug-in', '00000000-0000-0000-0000-000000000001', 'whatever it takes', true],
    ['an unknown plug-in', '00000000-0000-0000-0000-000000000001', '', false],
  ])("P1: knows the input of %s's plug-in (%s, %j: %s)", (_, guid, pluginInput, fine) => {
    const problems = judgeCredentialSpec(
      changed(({ host }) => Object.assign(host, { PluginGUID: `{${guid}}`, PluginInput: pluginInput })),
    )
    expect(problems).toHaveLength(fine ? 0 : 1)
  })

  test('says where a spec differs from the directory', () => {
    expect(compareWithDomain(good, { ...domain, dnsName: 'EU.contoso.com' })).toEqual([])
    const wrong = compareWithDomain({ kind: 'GMSACredentialSpec', credspec: good }, { ...domain, netBiosName: 'EU' })
    expect(wrong).toEqual([{ path: 'DomainJoinConfig.NetBiosName', problem: 'the directory says EU' }])
    expect(compareWithDomain(null, domain)).toHaveLength(5)
  })
})
