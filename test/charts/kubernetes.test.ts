import { describe, expect, test } from 'vitest'
import { type KubernetesObject, problemsOf } from './kubernetes.ts'

const policy = (spec: object): KubernetesObject => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'test', labels: { 'any.name/at-all': 'free' } },
  spec: { podSelector: { matchLabels: { any: 'free' } }, ...spec },
})
const ingress = (port: object) => policy({ ingress: [{ ports: [{ port: 'data' }, port] }] })

describe('what the tests know of the schemas of Kubernetes', () => {
  test('passes what is right, free maps included', () => {
    expect(problemsOf(ingress({ port: 53, protocol: 'UDP' }))).toEqual([])
  })

  test.each([
    ['at the top', { ...policy({}), sepc: {} }, ['unknown field .sepc']],
    ['in an object', policy({ podSelektor: {} }), ['unknown field .spec.podSelektor']],
    ['in a list of lists', ingress({ porto: 1 }), ['unknown field .spec.ingress.0.ports.1.porto']],
    [
      'in the metadata',
      { ...policy({}), metadata: { name: 'a', namespce: 'b' } },
      ['unknown field .metadata.namespce'],
    ],
  ])('finds a field that nobody knows %s', (_, object, problems) => {
    expect(problemsOf(object)).toEqual(problems)
  })

  test('finds values of another type, and kinds without a schema', () => {
    expect(problemsOf(ingress({ port: true })).join()).toContain('port')
    expect(problemsOf({ ...policy({}), kind: 'NetworkPolice' })).toEqual([
      'no schema of networking.k8s.io/v1 NetworkPolice',
    ])
  })

  const spec = (hostAccountConfig: object = {}, join: object = {}): KubernetesObject => ({
    apiVersion: 'windows.k8s.io/v1',
    kind: 'GMSACredentialSpec',
    metadata: { name: 'webapp01' },
    credspec: {
      CmsPlugins: ['ActiveDirectory'],
      DomainJoinConfig: {
        Sid: 'S-1-5-21-1-2-3',
        MachineAccountName: 'webapp01',
        Guid: '244818ae-87ac-4fcd-92ec-e79e5252348a',
        DnsTreeName: 'contoso.com',
        DnsName: 'contoso.com',
        NetBiosName: 'CONTOSO',
        ...join,
      },
      ActiveDirectoryConfig: {
        GroupManagedServiceAccounts: [
          { Name: 'webapp01', Scope: 'contoso.com' },
          { Name: 'webapp01', Scope: 'CONTOSO' },
        ],
        HostAccountConfig: {
          PortableCcgVersion: '1',
          PluginGUID: '{e4781092-f116-4b79-b55e-28eb6a224e26}',
          PluginInput: 'a:b',
          ...hostAccountConfig,
        },
      },
    },
  })

  test('passes a credential spec', () => {
    expect(problemsOf(spec())).toEqual([])
  })

  test.each([
    ['no braces', spec({ PluginGUID: 'e4781092-f116-4b79-b55e-28eb6a224e26' }), 'PluginGUID'],
    ['no namespace', spec({ PluginInput: 'secret' }), 'PluginInput'],
    ['a number for a version', spec({ PortableCcgVersion: 1 }), 'PortableCcgVersion'],
    ["a gMSA's SID", spec({}, { Sid: 'S-1-5-21-1-2-3-1105' }), 'Sid'],
    ['a $', spec({}, { MachineAccountName: 'webapp01$' }), 'MachineAccountName'],
    ['an unknown field', spec({ Password: 'no' }), 'additional'],
  ])('finds a credential spec with %s', (_, object, where) => {
    expect(problemsOf(object).join()).toContain(where)
  })
})
