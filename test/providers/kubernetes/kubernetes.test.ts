import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../../src/base/clock.ts'
import { silentLog } from '../../../src/base/log.ts'
import type { Kind } from '../../../src/gmsa/material.ts'
import { openKubernetes } from '../../../src/providers/kubernetes/open.ts'
import type { Provider } from '../../../src/providers/provider.ts'
import { printed } from '../../contract/printed.ts'
import { failure as failureOf } from '../../contract/provider-contract.ts'
import type { Reply, SeenRequest } from '../../fakes/stand-in.ts'
import { makePod, NAMESPACE, type Pod, reader, TOKEN } from './rig.ts'
import { failure } from './stand-in.ts'

const GOOD = { username: 'svc', password: 'pa55-Kanari', domainName: 'ad.test' }
let pod: Pod
let provider: Provider

beforeEach(async () => {
  pod = await makePod()
  pod.server.secrets.set(`${NAMESPACE}/one`, GOOD)
  provider = await open()
})
afterEach(async () => {
  await provider[Symbol.asyncDispose]()
  await pod[Symbol.asyncDispose]()
})

const context = { log: silentLog, clock: systemClock }
const open = () =>
  openKubernetes('cluster', { namespace: NAMESPACE }, context, { env: pod.env, serviceAccount: pod.folder })
const signal = () => AbortSignal.timeout(5_000)
const account = (secret: string) => ({ name: 'svc-ccg', secret, options: {} })
const get = <K extends Kind>(kind: K, secret: string) => {
  const read = provider.reads[kind]
  if (!read) throw new Error(`offers no ${kind}`)
  return read(account(secret), signal())
}
const read = (secret = 'one') => get('credential', secret)
const tokenOf = ({ headers }: SeenRequest | undefined = { method: '', path: '', headers: {}, body: '' }) =>
  String(headers['authorization']).replace('Bearer ', '')

describe('a read', () => {
  test('is one GET of the named Secret, and nothing else is asked', async () => {
    await read()
    const path = `/api/v1/namespaces/${NAMESPACE}/secrets/one`
    expect(pod.server.seen).toMatchObject([{ method: 'GET', path, headers: { accept: 'application/json' } }])
    expect(provider.watch).toBeUndefined()
    expect(provider.readPrevious).toBeUndefined()
  })

  test.each(['../one', 'one/../two', 'ONE', 'one?x', 'other/one', '', '-one', 'a'.repeat(254), 'one\n'])(
    'of %j, which is no name of a Secret, asks nobody',
    async (secret) => {
      await failureOf(read(secret), 'ACCOUNT_NOT_FOUND')
      expect(pod.server.seen).toEqual([])
    },
  )

  test('stays in its namespace', async () => {
    pod.server.secrets.set('other/two', GOOD)
    pod.server.tokens.set(TOKEN, { user: 'admin', mayGet: new Set(['other/two', `${NAMESPACE}/two`]) })
    await failureOf(read('two'), 'ACCOUNT_NOT_FOUND')
  })

  test('takes a Secret of any type, and passes over what it has besides, also where that is no text', async () => {
    pod.server.secrets.set(`${NAMESPACE}/one`, { ...GOOD, 'ca.p12': Buffer.from([0xff, 0x00, 0xfe]) })
    const { username, password } = await read()
    expect([username, password.revealText()]).toEqual(['svc', 'pa55-Kanari'])
  })

  test('of a Secret with a member called __proto__ finds nothing in it', async () => {
    const data = JSON.parse(`{"__proto__":${JSON.stringify(GOOD)}}`)
    pod.server.fail({ status: 200, body: `{"kind":"Secret","data":{"__proto__":"eA=="}}` })
    expect((await failureOf(read(), 'MATERIAL_MALFORMED')).message).toContain('username is missing')
    pod.server.fail({ status: 200, body: { kind: 'Secret', data } })
    expect((await failureOf(read(), 'MATERIAL_MALFORMED')).message).toContain('__proto__ is not base64')
  })

  test('of a Secret without data says what is missing', async () => {
    pod.server.secrets.set(`${NAMESPACE}/one`, {})
    expect((await failureOf(read(), 'MATERIAL_MALFORMED')).message).toContain('username is missing')
  })
})

describe('members of bytes', () => {
  /** One entry, `web01$@AD.TEST`, kvno 2, aes256 key of 0x01…: MIT's format 0x0502, written by hand. */
  const entry = Buffer.concat([
    Buffer.from('0001', 'hex'),
    lengthed('AD.TEST'),
    lengthed('web01$'),
    Buffer.from('0000000100000000020012', 'hex'),
    Buffer.from('0020', 'hex'),
    Buffer.alloc(32, 1),
    Buffer.from('00000002', 'hex'),
  ])
  const size = Buffer.alloc(4)
  size.writeInt32BE(entry.length)
  const keytab = Buffer.concat([Buffer.from('0502', 'hex'), size, entry])

  function lengthed(text: string): Buffer {
    const length = Buffer.alloc(2)
    length.writeUInt16BE(text.length)
    return Buffer.concat([length, Buffer.from(text)])
  }

  test.each([
    ['as they are, from a file', keytab],
    ['in base64, as in all other stores', keytab.toString('base64')],
  ])('are taken %s', async (_how, value) => {
    pod.server.secrets.set(`${NAMESPACE}/one`, { keytab: value })
    const { realm, keys } = await get('kerberos-keys', 'one')
    expect(realm).toBe('AD.TEST')
    expect(keys).toMatchObject([{ kvno: 2, enctype: 18, phase: 'current' }])
    expect([...(keys[0]?.key.reveal() ?? [])]).toEqual([...Buffer.alloc(32, 1)])
  })

  test.each([
    ['base64 with a line break', `${keytab.toString('base64')}\n`],
    ['bytes of something else', Buffer.from([0xff, 0xd8, 0xff])],
    ['a keytab cut short', keytab.subarray(0, 20)],
    ['nothing', ''],
  ])('are refused as %s', async (_what, value) => {
    pod.server.secrets.set(`${NAMESPACE}/one`, { keytab: value })
    expect((await failureOf(get('kerberos-keys', 'one'), 'MATERIAL_MALFORMED')).message).toContain('keytab')
  })

  test('a managed password may be the blob itself', async () => {
    const blob = Buffer.from('0100', 'hex')
    pod.server.secrets.set(`${NAMESPACE}/one`, { managedPassword: blob, samAccountName: 'web01$', domain: 'ad.test' })
    const { message } = await failureOf(get('managed-password', 'one'), 'MATERIAL_MALFORMED')
    // It came as far as the parser of blobs, which finds it too short.
    expect(message).not.toContain('base64')
    expect(message).toContain('managedPassword')
  })
})

describe('an answer that is no Secret', () => {
  test.each<[string, Reply, string, object]>([
    [
      'of somebody who is not known',
      failure(401, 'Unauthorized', 'Unauthorized'),
      'STORE_DENIED',
      { reason: 'not-permitted' },
    ],
    [
      'about rights',
      failure(403, 'Forbidden', 'secrets "one" is forbidden: pa55-Kanari'),
      'STORE_DENIED',
      { reason: 'not-permitted', hint: expect.stringContaining('resourceNames') },
    ],
    ['about absence', failure(404, 'NotFound', 'secrets "one" not found'), 'ACCOUNT_NOT_FOUND', {}],
    [
      'of another server than the API, which has no such path',
      { status: 404, body: '404 page not found' },
      'STORE_UNAVAILABLE',
      { reason: 'protocol' },
    ],
    [
      'about a version that is gone',
      failure(410, 'Expired', 'too old resource version'),
      'STORE_UNAVAILABLE',
      { message: expect.stringMatching(/410.*Expired/) },
    ],
    [
      'that asks for patience',
      failure(429, 'TooManyRequests', 'slow down', {}, 3),
      'STORE_UNAVAILABLE',
      { retryAfter: 3, reason: undefined, message: expect.stringContaining('TooManyRequests') },
    ],
    [
      'of a server whose store fails',
      failure(500, 'InternalError', 'etcdserver: pa55-Kanari'),
      'STORE_UNAVAILABLE',
      { reason: undefined, message: expect.stringMatching(/500.*InternalError/) },
    ],
    ['of a gateway', { status: 503, body: '<html>' }, 'STORE_UNAVAILABLE', { reason: undefined }],
    ['of a sign-in page', { status: 302, headers: { location: '/' } }, 'STORE_UNAVAILABLE', { reason: 'protocol' }],
    [
      'of another kind',
      { status: 200, body: { kind: 'ConfigMap', data: GOOD } },
      'STORE_UNAVAILABLE',
      { reason: 'protocol' },
    ],
    [
      'with an unknown reason, which is not repeated',
      failure(500, 'Pa55Kanari', 'no'),
      'STORE_UNAVAILABLE',
      { message: expect.not.stringContaining('Kanari') },
    ],
  ])('%s', async (_what, reply, code, expected) => {
    pod.server.fail(reply)
    const outcome = await read().catch((error: unknown) => error)
    expect(outcome).toMatchObject({ code, ...expected })
    expect(printed(outcome)).not.toMatch(/pa55|kanari/i)
  })

  test.each(['not base64!', 'cGE1NQ', 'cGE1NQ==\n', 'cGE1NR==', 5, null, ['cGE1NQ==']])(
    'a member of data that is not base64 (%j) is named, and not shown',
    async (value) => {
      const data = { username: 'c3Zj', password: value, domainName: 'YWQudGVzdA==' }
      pod.server.fail({ status: 200, body: { kind: 'Secret', data } })
      const error = await failureOf(read(), 'MATERIAL_MALFORMED')
      expect(error.message).toContain('password is not base64')
      expect(printed(error)).not.toContain('cGE1')
    },
  )
})

describe('the token', () => {
  test('is that on disk at each request', async () => {
    await read()
    pod.server.tokens.clear()
    pod.server.tokens.set('second', reader())
    await pod.writeToken('second\n')
    await read()
    expect(pod.server.seen.map(tokenOf)).toEqual([TOKEN, 'second'])
  })

  test('is read once more where it was replaced while the request was on its way', async () => {
    pod.server.tokens.set('second', reader())
    pod.server.fail(failure(401, 'Unauthorized', 'Unauthorized'), (request) => {
      writeFileSync(join(pod.folder, 'token'), 'second')
      return tokenOf(request) === TOKEN
    })
    await read()
    expect(pod.server.seen.map(tokenOf)).toEqual([TOKEN, 'second'])
  })

  test('is not shown again where it is the same', async () => {
    pod.server.tokens.clear()
    expect(await failureOf(read(), 'STORE_DENIED')).toMatchObject({ hint: expect.stringContaining('expired') })
    expect(pod.server.seen).toHaveLength(1)
  })

  test.each([
    ['is empty', ''],
    ['holds a line break', 'one\ntwo'],
    ['is no token', 'pa55 Kanari'],
  ])('that %s is an outage of ours, and not sent', async (_what, text) => {
    await pod.writeToken(text)
    const error = await failureOf(read(), 'STORE_UNAVAILABLE')
    expect(error.message).toContain(`${pod.folder}/token: expected a bearer token`)
    expect(printed(error)).not.toContain('Kanari')
    expect(pod.server.seen).toEqual([])
    await pod.writeToken(TOKEN)
    await read()
  })
})

describe('the probe', () => {
  test('needs no right to any Secret: the version is asked for', async () => {
    pod.server.tokens.set(TOKEN, reader([]))
    await provider.probe(signal())
    expect(pod.server.seen.map(({ path }) => path)).toEqual(['/version'])
  })

  test('is content with a refusal where the version is withheld: it is about somebody who is known', async () => {
    pod.server.publicInfo = false
    await provider.probe(signal())
  })

  test('fails where we are not known', async () => {
    pod.server.tokens.clear()
    await failureOf(provider.probe(signal()), 'STORE_DENIED')
  })

  test.each<[string, Reply]>([
    ['another server', { status: 404, body: 'no' }],
    ['a page of its own', { status: 200, body: '<html>' }],
    ['a wall in front of it', { status: 403, body: '<html>' }],
  ])('fails where the answer is that of %s', async (_what, reply) => {
    pod.server.fail(reply)
    await failureOf(provider.probe(signal()), 'STORE_UNAVAILABLE', 'STORE_DENIED')
  })
})
