import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import type { Provider } from '../../src/providers/provider.ts'
import { memoryStore } from '../fakes/memory-provider.ts'
import { makeRig, type Rig } from '../fakes/rig.ts'

const facts = {
  sid: 'S-1-5-21-1-2-3',
  guid: '8665abd4-e947-4dd0-9a51-f8254943c90b',
  dnsName: 'ad.test',
  dnsTreeName: 'ad.test',
  netBiosName: 'AD',
}

let rig: Rig
const directory = { reads: 0, failure: undefined as GmsaError | undefined }

beforeAll(async () => {
  const known: Provider = {
    name: 'ad',
    reads: {},
    probe: async () => {},
    async domain() {
      directory.reads += 1
      if (directory.failure) throw directory.failure
      return facts
    },
    [Symbol.asyncDispose]: async () => {},
  }
  rig = await makeRig({
    providers: new Map([
      ['ad', known],
      ['memory', memoryStore().provider],
    ]),
    clients: [
      {
        match: { uri: 'spiffe://localhost/client/test' },
        allow: ['credential-spec'],
        accounts: ['web01', 'joined', 'svc'],
      },
    ],
    config: {
      accounts: new Map([
        ['web01', { provider: 'ad', options: { samAccountName: 'WebApp01$' }, pluginInput: 'contoso-ad:svc-ccg' }],
        ['joined', { provider: 'ad', options: {} }],
        ['svc', { provider: 'memory', options: {} }],
        ['secret01', { provider: 'ad', options: {} }],
      ]),
    },
  })
})
afterAll(() => rig[Symbol.asyncDispose]())

const get = (account: string, query = '', headers = {}) =>
  rig.get(`/v1/accounts/${account}/credential-spec${query}`, { headers })

describe('GET /v1/accounts/NAME/credential-spec', () => {
  test('gives the JSON that Docker takes', async () => {
    const { status, headers, body } = await get('web01')
    expect([status, headers['content-type']]).toEqual([200, 'application/json; charset=utf-8'])
    const spec = JSON.parse(body)
    expect(spec.DomainJoinConfig).toMatchObject({ MachineAccountName: 'WebApp01', Sid: facts.sid, NetBiosName: 'AD' })
    expect(spec.ActiveDirectoryConfig.HostAccountConfig).toEqual({
      PortableCcgVersion: '1',
      PluginGUID: '{E4781092-F116-4B79-B55E-28EB6A224E26}',
      PluginInput: 'contoso-ad:svc-ccg',
    })
  })

  test('gives the manifest that Kubernetes takes', async () => {
    const { headers, body } = await get('web01', '?format=kubernetes')
    expect(headers['content-type']).toBe('application/yaml; charset=utf-8')
    expect(body).toMatch(/^apiVersion: windows\.k8s\.io\/v1\nkind: GMSACredentialSpec\nmetadata:\n {2}name: web01\n/)
  })

  test('asks no plug-in where the configuration names no impersonation account', async () => {
    expect(JSON.parse((await get('joined')).body).ActiveDirectoryConfig).not.toHaveProperty('HostAccountConfig')
  })

  test('has a tag for each format, and asks the directory once an hour', async () => {
    const before = directory.reads
    const docker = await get('web01')
    const kubernetes = await get('web01', '?format=kubernetes')
    expect(docker.headers['etag']).not.toBe(kubernetes.headers['etag'])
    const again = await get('web01', '', { 'if-none-match': docker.headers['etag'] })
    expect([again.status, again.body]).toEqual([304, ''])
    expect(directory.reads).toBe(before)
  })

  test.each([
    ['another format', 'web01', '?format=rancher', 400, 'REQUEST_INVALID'],
    ['a store that is no directory', 'svc', '', 501, 'KIND_NOT_OFFERED'],
    ['an account that is not granted', 'secret01', '', 404, 'ACCOUNT_NOT_FOUND'],
    ['an account that there is not', 'nobody', '', 404, 'ACCOUNT_NOT_FOUND'],
  ])('refuses %s', async (_, account, query, status, code) => {
    const reply = await get(account, query)
    expect([reply.status, reply.headers['gmsa-error']]).toEqual([status, code])
  })

  test('is allowed by name alone, and listed', async () => {
    const { body } = await rig.get('/v1/accounts')
    expect(JSON.parse(body)).toEqual({
      accounts: [
        { name: 'web01', kinds: ['credential-spec'] },
        { name: 'joined', kinds: ['credential-spec'] },
      ],
    })
    expect((await rig.get('/v1/accounts/web01/keytab')).status).toBe(404)
  })

  test('only GET', async () => {
    const { status, headers } = await rig.get('/v1/accounts/web01/credential-spec', { method: 'PUT' })
    expect([status, headers['allow']]).toEqual([405, 'GET'])
  })
})

test('a directory that is out is said so, and not remembered', async () => {
  directory.failure = new GmsaError('STORE_UNAVAILABLE', 'out')
  const store: Provider = {
    name: 'ad',
    reads: {},
    probe: async () => {},
    domain: async () => (directory.failure ? Promise.reject(directory.failure) : facts),
    [Symbol.asyncDispose]: async () => {},
  }
  await using other = await makeRig({
    providers: new Map([['ad', store]]),
    clients: [{ match: { uri: 'spiffe://localhost/client/test' }, allow: ['credential-spec'], accounts: ['*'] }],
    config: { accounts: new Map([['web01', { provider: 'ad', options: {} }]]) },
  })
  expect((await other.get('/v1/accounts/web01/credential-spec')).status).toBe(503)
  directory.failure = undefined
  expect((await other.get('/v1/accounts/web01/credential-spec')).status).toBe(200)
})
