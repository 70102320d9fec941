import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { openProviders } from '../../src/cli/open-providers.ts'
import { parseManagedPassword } from '../../src/gmsa/managed-password.ts'
import { parseKeytab } from '../../src/kerberos/keytab.ts'
import { keepingLog, makeRig, type Reply, type Rig } from '../fakes/rig.ts'
import { ROOT_KEYS, WEBSVC } from '../providers/kds-root-key/rig.ts'

const KINDS = ['credential', 'keys', 'keytab', 'managed-password'] as const
/** The clock is that of this machine, so the anchor has to be in its past. */
const BY_CREATION = { ...WEBSVC, managedPasswordId: undefined, whenCreated: '2026-01-01T00:00:00Z' }

describe('an account without directory, over mutual TLS', () => {
  const { log, lines } = keepingLog()
  const replies: Reply[] = []
  let folder: string
  let rig: Rig

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gmsa-offline-server-'))
    const file = join(folder, 'kds.json')
    await writeFile(file, JSON.stringify({ rootKeys: ROOT_KEYS }), { mode: 0o600 })
    await writeFile(join(folder, 'roots.json'), JSON.stringify({ rootKeys: ROOT_KEYS }), { mode: 0o600 })
    const broken = join(folder, 'broken.json')
    await writeFile(broken, JSON.stringify({ rootKeys: ROOT_KEYS.map((key) => ({ ...key, version: key.data })) }), {
      mode: 0o600,
    })
    const providers = await openProviders(
      new Map([
        ['offline', { type: 'kds-root-key', options: { rootKeys: { file } } }],
        ['stored', { type: 'kds-root-key', options: { rootKeys: { provider: 'local', account: 'roots' } } }],
        ['broken', { type: 'kds-root-key', options: { rootKeys: { file: broken } } }],
        ['local', { type: 'file', options: { directory: folder } }],
      ]),
      { log, clock: systemClock },
    )
    const account = (provider: string, options: object) => ({ provider, options: { ...options } })
    rig = await makeRig({
      log,
      providers,
      clients: [{ match: { commonName: '*' }, allow: [...KINDS, 'credential-spec', 'admin'], accounts: ['*'] }],
      config: {
        accounts: new Map([
          ['websvc', account('offline', { ...BY_CREATION, kvno: 4 })],
          ['stored', account('stored', BY_CREATION)],
          ['broken', account('broken', BY_CREATION)],
          ['roots', account('local', {})],
        ]),
        limits: { requestsPerSecond: 100_000 },
      },
    })
  })
  afterAll(async () => {
    await rig[Symbol.asyncDispose]()
    await rm(folder, { recursive: true, force: true })
  })

  async function get(path: string): Promise<Reply> {
    const reply = await rig.get(path)
    replies.push(reply)
    return reply
  }

  test('has keys and a keytab as any other, and says that their kvno is counted', async () => {
    const { status, body } = await get('/v1/accounts/websvc/keys')
    expect(status).toBe(200)
    const { keys, kvno, principal } = JSON.parse(body)
    expect([principal, kvno]).toEqual(['websvc$@GMSA.EXAMPLE.COM', 4])
    const current = keys.filter(({ phase }: { phase: string }) => phase === 'current')
    expect(current).toMatchObject(Array(2).fill({ kvno: 4, predicted: true }))
    const keytab = parseKeytab((await get('/v1/accounts/websvc/keytab?for=initiator')).bytes)
    expect(new Set(keytab.map((entry) => entry.kvno))).toEqual(new Set([4]))
  })

  test('without a kvno has its managed password, and no keys', async () => {
    for (const kind of ['keys', 'keytab']) {
      const reply = await get(`/v1/accounts/stored/${kind}`)
      expect([reply.status, reply.headers['gmsa-error']]).toEqual([409, 'KVNO_UNKNOWN'])
    }
    const [stored, own] = await Promise.all([
      get('/v1/accounts/stored/managed-password'),
      get('/v1/accounts/websvc/managed-password'),
    ])
    const [one, other] = [stored, own].map(({ bytes }) => parseManagedPassword(bytes).current)
    expect(stored.status).toBe(200)
    expect(one?.equals(other ?? one)).toBe(true)
  })

  test('is listed with what can be handed out; a record of root keys has nothing of the kind', async () => {
    for (const kind of KINDS) {
      const { status, headers } = await get(`/v1/accounts/roots/${kind}`)
      expect([status, headers['gmsa-error']], kind).toEqual([501, 'KIND_NOT_OFFERED'])
    }
    replies.push(await rig.provider('roots'))
    const { body } = await get('/v1/accounts')
    const kinds = Object.fromEntries(
      JSON.parse(body).accounts.map(({ name, kinds }: { name: string; kinds: string[] }) => [name, kinds]),
    )
    expect(kinds['websvc']).toEqual(['keys', 'keytab', 'managed-password'])
    expect(body).not.toContain('kds-root-key')
    for (const kind of ['kds-root-key', 'root-key', 'rootKeys'])
      expect((await get(`/v1/accounts/roots/${kind}`)).status).toBe(404)
  })

  test('fails with broken root keys as with any store that is', async () => {
    const { status, headers } = await get('/v1/accounts/broken/managed-password')
    expect([status, headers['gmsa-error']]).toEqual([502, 'MATERIAL_MALFORMED'])
  })

  test('shows no root key in any answer, page or line of the log', async () => {
    for (const path of ['/metrics', '/readyz?verbose', '/', '/livez']) replies.push(await rig.admin(path))
    const everything = [
      ...replies.map(({ bytes, headers }) => bytes.toString('latin1') + JSON.stringify(headers)),
      JSON.stringify(lines),
    ]
    expect(replies.length).toBeGreaterThan(15)
    expect(everything.join('')).toContain('version: expected a number')
    for (const { data } of ROOT_KEYS) {
      const raw = Buffer.from(data, 'base64')
      for (const form of [data.slice(0, 40), raw.toString('hex').slice(0, 40), raw.toString('latin1').slice(0, 20)]) {
        for (const text of everything) expect(text.includes(form)).toBe(false)
      }
    }
  })
})
