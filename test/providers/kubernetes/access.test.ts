import { chmod, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../../src/base/clock.ts'
import { GmsaError } from '../../../src/base/errors.ts'
import { silentLog } from '../../../src/base/log.ts'
import type { AccessOptions, Surroundings } from '../../../src/providers/kubernetes/access.ts'
import { openKubernetes } from '../../../src/providers/kubernetes/open.ts'
import type { Provider } from '../../../src/providers/provider.ts'
import { printed } from '../../contract/printed.ts'
import { failure, rejection } from '../../contract/provider-contract.ts'
import { makeCa, type TestCa, type TestCertificate } from '../../fakes/pki.ts'
import { NAMESPACE, reader, TOKEN } from './rig.ts'
import { type ApiServer, certificateKubeconfig, kubeconfigText, startApiServer } from './stand-in.ts'

const GOOD = { username: 'svc', password: 'p', domainName: 'ad.test' }
let folder: string
let server: ApiServer
let clientCa: TestCa
const closing: Provider[] = []

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gmsa-access-'))
  clientCa = await makeCa({ name: 'kubernetes' })
  server = await startApiServer({ clientCa })
  server.secrets.set(`${NAMESPACE}/one`, GOOD)
  server.tokens.set(TOKEN, reader())
})
afterEach(async () => {
  for (const each of closing.splice(0)) await each[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

const path = (name: string) => join(folder, name)
const write = async (name: string, text: string, mode = 0o600) => {
  await writeFile(path(name), text)
  await chmod(path(name), mode)
  return path(name)
}

async function open(options: AccessOptions = {}, surroundings: Surroundings = {}): Promise<Provider> {
  const context = { log: silentLog, clock: systemClock }
  const provider = await openKubernetes('cluster', { namespace: NAMESPACE, ...options }, context, {
    env: {},
    ...surroundings,
  })
  closing.push(provider)
  return provider
}

async function readOne(provider: Provider): Promise<string | undefined> {
  const account = { name: 'svc-ccg', secret: 'one', options: {} }
  return (await provider.reads.credential?.(account, AbortSignal.timeout(5_000)))?.username
}

/** What opening is refused with. */
async function refusal(options: AccessOptions = {}, surroundings: Surroundings = {}): Promise<GmsaError> {
  const error = await rejection(open(options, surroundings))
  if (!(error instanceof GmsaError)) throw error
  expect(error.code).toBe('CONFIG_INVALID')
  return error
}

const cluster = () => ({ server: server.address, 'certificate-authority': 'ca.crt' })
const kubeconfig = async (user: object, more: object = {}, name = 'config') => {
  await write('ca.crt', server.ca, 0o644)
  return write(name, kubeconfigText({ ...cluster(), ...more }, { ...user }))
}

describe('outside a cluster', () => {
  test.each<[string, () => Promise<object>]>([
    ['token', async () => ({ token: TOKEN })],
    ['tokenFile', async () => ({ tokenFile: (await write('token', `${TOKEN}\n`)) && 'token' })],
    ['tokenFile before token', async () => ({ token: 'stale', tokenFile: await write('token', TOKEN) })],
    ['client-certificate and client-key', async () => certificateFiles(await identity())],
    [
      'the same with data, before the files',
      async () => ({ ...certificateData(await identity()), 'client-key': 'no' }),
    ],
    ['both', async () => ({ token: TOKEN, ...certificateData(await identity()) })],
  ])('a user logs on with %s', async (_how, user) => {
    const provider = await open({ kubeconfig: await kubeconfig(await user()) })
    expect(await readOne(provider)).toBe('svc')
  })

  async function identity(): Promise<TestCertificate> {
    const leaf = await clientCa.issue()
    server.certificates.set(leaf.serial, reader())
    return leaf
  }
  async function certificateFiles({ certificate, key }: TestCertificate): Promise<object> {
    await write('user.crt', certificate, 0o644)
    await write('user.key', key)
    return { 'client-certificate': 'user.crt', 'client-key': 'user.key' }
  }
  function certificateData({ certificate, key }: TestCertificate): object {
    const [cert, secret] = [certificate, key].map((text) => Buffer.from(text).toString('base64'))
    return { 'client-certificate-data': cert, 'client-key-data': secret }
  }

  test('the variable KUBECONFIG stands in for the option, and the option goes before it', async () => {
    const good = await kubeconfig({ token: TOKEN })
    expect(await readOne(await open({}, { env: { KUBECONFIG: good } }))).toBe('svc')
    expect(await readOne(await open({ kubeconfig: good }, { env: { KUBECONFIG: path('none') } }))).toBe('svc')
  })

  test('several files in KUBECONFIG are merged: the first says which context, missing ones are passed over', async () => {
    await write('ca.crt', server.ca, 0o644)
    const context = { name: 'here', context: { cluster: 'c', user: 'u' } }
    const first = await write('first', JSON.stringify({ 'current-context': 'here', contexts: [context] }))
    const second = await write(
      'second',
      JSON.stringify({
        'current-context': 'other',
        clusters: [{ name: 'c', cluster: cluster() }],
        users: [{ name: 'u', user: { token: TOKEN } }],
      }),
    )
    const third = await write('third', JSON.stringify({ users: [{ name: 'u', user: { token: 'of-the-third' } }] }))
    const KUBECONFIG = [first, path('none'), second, '', third].join(delimiter)
    expect(await readOne(await open({}, { env: { KUBECONFIG } }))).toBe('svc')
    const none = [path('a'), path('b')].join(delimiter)
    expect((await refusal({}, { env: { KUBECONFIG: none } })).message).toMatch(/a, .*b: no such file/)
  })

  test('the option context chooses another than the current one', async () => {
    const text = kubeconfigText({ ...cluster(), server: 'https://nowhere.invalid' }, { token: 'x' })
    const document = JSON.parse(text)
    document.clusters.push({ name: 'ours', cluster: cluster() })
    document.users.push({ name: 'us', user: { token: TOKEN } })
    document.contexts.push({ name: 'chosen', context: { cluster: 'ours', user: 'us' } })
    await write('ca.crt', server.ca, 0o644)
    const file = await write('config', JSON.stringify(document))
    expect(await readOne(await open({ kubeconfig: file, context: 'chosen' }))).toBe('svc')
    expect((await refusal({ kubeconfig: file, context: 'absent' })).message).toContain('contexts.absent: there is none')
  })

  test('tls-server-name is what the certificate has to be for', async () => {
    await server.show('wrong-name')
    const file = await kubeconfig({ token: TOKEN }, { 'tls-server-name': 'other.test' })
    expect(await readOne(await open({ kubeconfig: file }))).toBe('svc')
    const other = await kubeconfig({ token: TOKEN }, { 'tls-server-name': 'third.test' }, 'other')
    expect(await failure(readOne(await open({ kubeconfig: other })), 'STORE_UNAVAILABLE')).toMatchObject({
      reason: 'name-mismatch',
    })
  })

  test('a kubeconfig that changes is taken up, another server too; one that breaks is an outage, and mended again', async () => {
    const leaf = await clientCa.issue()
    server.certificates.set(leaf.serial, reader())
    const file = await kubeconfig({ token: TOKEN })
    const provider = await open({ kubeconfig: file })
    expect(await readOne(provider)).toBe('svc')
    await using other = await startApiServer({ clientCa })
    other.certificates.set(leaf.serial, reader())
    other.secrets.set(`${NAMESPACE}/one`, { ...GOOD, username: 'of-the-other' })
    await write('config', certificateKubeconfig(other, leaf))
    expect(await readOne(provider)).toBe('of-the-other')
    for (const broken of ['{', '{}', kubeconfigText({ ...cluster(), server: 'ftp://x' }, { token: TOKEN })]) {
      await write('config', broken)
      await failure(readOne(provider), 'STORE_UNAVAILABLE')
    }
    await rename(file, `${file}.bak`)
    expect((await failure(readOne(provider), 'STORE_UNAVAILABLE')).message).toContain('no such file')
    await write('config', certificateKubeconfig(server, leaf))
    expect(await readOne(provider)).toBe('svc')
  })

  test('a kubeconfig, key or token that others can read is refused, unless that is allowed', async () => {
    const leaf = await clientCa.issue()
    server.certificates.set(leaf.serial, reader())
    await write('user.crt', leaf.certificate, 0o644)
    await write('user.key', leaf.key)
    await write('token', TOKEN)
    const file = await kubeconfig({ tokenFile: 'token', 'client-certificate': 'user.crt', 'client-key': 'user.key' })
    const provider = await open({ kubeconfig: file })
    for (const name of ['config', 'user.key', 'token']) {
      await chmod(path(name), 0o640)
      const error = await failure(readOne(provider), 'STORE_DENIED')
      expect(error.message).toContain(`${path(name)} can be read or written by group or others`)
      expect((await refusal({ kubeconfig: file })).hint).toContain('chmod 600')
      expect(await readOne(await open({ kubeconfig: file, allowReadable: true }))).toBe('svc')
      await chmod(path(name), 0o600)
    }
    expect(await readOne(provider)).toBe('svc')
  })
})

describe('a kubeconfig is refused, with the place of all that is wrong and no value of it,', () => {
  const refused = {
    clusters: { 'insecure-skip-tls-verify': true, 'proxy-url': 'http://pa55-Kanari' },
    users: {
      exec: { command: 'pa55-Kanari' },
      'auth-provider': { name: 'pa55-Kanari' },
      username: 'pa55-Kanari',
      password: 'pa55-Kanari',
      as: 'pa55-Kanari',
      'as-uid': 'pa55-Kanari',
      'as-groups': ['pa55-Kanari'],
      'as-user-extra': { scopes: ['pa55-Kanari'] },
    },
  }
  const members = Object.entries(refused).flatMap(([list, all]) =>
    Object.entries(all).map(([member, value]) => [list, member, value] as const),
  )

  test.each(members)('for %s with %s', async (list, member, value) => {
    const [inCluster, inUser] = list === 'clusters' ? [{ [member]: value }, {}] : [{}, { [member]: value }]
    const file = await kubeconfig({ token: TOKEN, ...inUser }, inCluster)
    const error = await refusal({ kubeconfig: file })
    const name = list === 'clusters' ? 'prod' : 'reader'
    expect(error.message).toContain(`providers.cluster: ${file}: ${list}.${name}.${member}: refused: `)
    expect(error.message.split('\n')).toHaveLength(1)
    expect(printed(error)).not.toMatch(/pa55|kanari/i)
  })

  test('for all of them at once', async () => {
    const file = await kubeconfig({ token: TOKEN, ...refused.users }, refused.clusters)
    expect((await refusal({ kubeconfig: file })).message.split('\n')).toHaveLength(members.length)
  })

  test('but not for those that say nothing, nor in a user or cluster that is not used', async () => {
    const empty = { exec: null, username: '', as: '', 'as-groups': [], 'as-user-extra': {} }
    const file = await kubeconfig({ token: TOKEN, ...empty }, { 'insecure-skip-tls-verify': false, 'proxy-url': '' })
    const document = JSON.parse(kubeconfigText({ ...cluster(), 'proxy-url': '' }, { token: TOKEN, ...empty }))
    document.users.push({ name: 'other', user: refused.users })
    document.clusters.push({ name: 'other', cluster: refused.clusters })
    await write('config', JSON.stringify(document))
    expect(await readOne(await open({ kubeconfig: file }))).toBe('svc')
  })

  test.each<[string, string | (() => string), RegExp]>([
    ['text that is no YAML', 'a: [pa55-Kanari', /config: expected YAML or JSON, without aliases and tags$/],
    ['YAML with an unknown tag', 'a: !secret pa55-Kanari', /expected YAML or JSON, without aliases and tags$/],
    ['text that nests too deeply', '['.repeat(100_000), /expected YAML or JSON, without aliases and tags$/],
    ['text that grows by aliases', 'a: &a [x]\nb: [*a, *a]', /expected YAML or JSON, without aliases and tags$/],
    ['an empty file', '', /config: current-context: expected a name/],
    ['a list', '[pa55-Kanari]', /current-context/],
    ['a context that is not there', 'current-context: absent', /config: contexts\.absent: there is none$/],
    [
      'a context without cluster and user',
      'current-context: a\ncontexts: [{ name: a, context: {} }]',
      /contexts\.a\.cluster: required\n.*contexts\.a\.user: required$/,
    ],
    [
      'cluster and user that are not there',
      'current-context: a\ncontexts: [{ name: a, context: { cluster: c, user: u } }]',
      /clusters\.c: there is none\n.*users\.u: there is none$/,
    ],
    [
      'a cluster without server and a user without anything',
      () => kubeconfigText({}, {}),
      /clusters\.prod\.server: required\n.*users\.reader\.token: expected this, tokenFile, or client-certificate/,
    ],
    [
      'a certificate without its key',
      () => kubeconfigText(cluster(), { 'client-certificate': 'pa55-Kanari' }),
      /users\.reader\.client-key: required with client-certificate$/,
    ],
    [
      'members of other types',
      () => kubeconfigText({ ...cluster(), 'tls-server-name': 5_512_345 }, { token: { pa55: 'Kanari' } }),
      /tls-server-name: expected text\n.*token: expected text/,
    ],
    [
      'data that is not base64',
      () => kubeconfigText({ server: server.address, 'certificate-authority-data': 'pa55-Kanari' }, { token: 'x' }),
      /certificate-authority-data: expected base64$/,
    ],
    [
      'an address that is none of ours',
      () => kubeconfigText({ server: 'http://pa55-kanari.example' }, { token: 'x' }),
      /^providers\.cluster: expected https/,
    ],
    [
      'a token that can not be sent',
      () => kubeconfigText(cluster(), { token: 'pa55 Kanari' }),
      /users\.reader\.token: expected a bearer token$/,
    ],
    [
      'a CA file that is missing',
      () => kubeconfigText({ ...cluster(), 'certificate-authority': 'x' }, { token: 'x' }),
      /\/x: no such file/,
    ],
    ['a token file that is missing', () => kubeconfigText(cluster(), { tokenFile: 'x' }), /\/x: no such file/],
    ['more text than any has', `# ${'x'.repeat(600_000)}`, /config is larger than/],
  ])('for %s', async (_what, text, said) => {
    await write('ca.crt', server.ca, 0o644)
    const file = await write('config', typeof text === 'string' ? text : text())
    const error = await refusal({ kubeconfig: file })
    expect(error.message).toMatch(said)
    expect(printed(error)).not.toMatch(/pa55|kanari/i)
  })

  test('in bounded time, whatever it is full of', async () => {
    const keys = Array.from({ length: 40_000 }, (_, index) => `k${index}: 1`).join('\n')
    const file = await write('config', keys)
    const started = performance.now()
    await refusal({ kubeconfig: file })
    expect(performance.now() - started).toBeLessThan(5_000)
  })
})

describe('in a cluster', () => {
  const pod = (more: NodeJS.ProcessEnv = {}): Surroundings => ({
    serviceAccount: folder,
    env: { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: String(server.port), ...more },
  })

  test.each(['token', 'ca.crt'])('a pod without %s says so at the start, and what to do', async (name) => {
    await write('ca.crt', server.ca, 0o644)
    await write('token', TOKEN)
    await rm(path(name))
    const error = await refusal({}, pod())
    expect(error.message).toBe(`providers.cluster: ${path(name)}: no such file`)
    expect(error.hint).toContain('automountServiceAccountToken')
  })

  test('a new CA is taken from its file', async () => {
    await write('ca.crt', server.ca, 0o644)
    await write('token', TOKEN)
    const provider = await open({}, pod())
    expect(await readOne(provider)).toBe('svc')
    const next = await server.rotateCa()
    expect(await failure(readOne(provider), 'STORE_UNAVAILABLE')).toMatchObject({ reason: 'unknown-ca' })
    await write('ca.crt', next, 0o644)
    expect(await readOne(provider)).toBe('svc')
    await write('ca.crt', '')
    expect(await failure(readOne(provider), 'STORE_UNAVAILABLE')).toMatchObject({ reason: 'unknown-ca' })
  })

  test('an address of IPv6 is written as in a URL', async () => {
    await write('ca.crt', server.ca, 0o644)
    await write('token', TOKEN)
    const provider = await open({}, pod({ KUBERNETES_SERVICE_HOST: '::1' }))
    // Nobody listens there: what counts is that it was asked.
    expect((await failure(readOne(provider), 'STORE_UNAVAILABLE')).message).toContain(`[::1]:${server.port}`)
  })

  test.each<[string, Surroundings, AccessOptions, RegExp]>([
    ['neither pod nor kubeconfig', { env: {} }, {}, /no pod of a cluster, and there is no kubeconfig/],
    ['an empty KUBECONFIG', { env: { KUBECONFIG: delimiter } }, {}, /there is no kubeconfig/],
    ['a host without a port', { env: { KUBERNETES_SERVICE_HOST: '10.0.0.1' } }, {}, /no pod of a cluster/],
    ['a context and no kubeconfig', { env: {} }, { context: 'x' }, /context: expected kubeconfig beside it/],
  ])('with %s there is nobody to ask', async (_what, surroundings, options, said) => {
    expect((await refusal(options, surroundings)).message).toMatch(said)
  })
})
