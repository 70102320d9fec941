import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Secret } from '../../src/base/secret.ts'
import type { AccountEntry } from '../../src/broker/broker.ts'
import type { ClientRule } from '../../src/broker/policy.ts'
import { encodeKeytab, type KeytabEntry, parseKeytab } from '../../src/kerberos/keytab.ts'
import { formatPrincipal, parsePrincipal } from '../../src/kerberos/principal.ts'
import { movableClock } from '../fakes/clock.ts'
import { makeRig, type Reply, type Rig, type RigOptions } from '../fakes/rig.ts'
import lab from '../vectors/samba-dc-sample.json' with { type: 'json' }
import { metric } from './wire.ts'

/** A sample with a previous password, far from its change. */
const sample = lab.samples.find(({ label }) => label === 'an hour after the roll') ?? expect.unreachable()
const KVNO = sample.dcExportedKeys.kvno
const BLOB = Buffer.from(sample.managedPassword.raw, 'hex')

const RECORD = {
  managedPassword: BLOB.toString('base64'),
  samAccountName: sample.account.name,
  domain: 'ad.test',
  kvno: KVNO,
  servicePrincipalNames: ['HTTP/web01.ad.test', 'HTTP/web01'],
}
const entry = (kvno: number, key: number): KeytabEntry => ({
  principal: parsePrincipal('sql01$@AD.TEST'),
  timestamp: 1_700_000_000,
  kvno,
  enctype: 17,
  key: new Secret(new Uint8Array(16).fill(key)),
})
const KEYTAB = { keytab: encodeKeytab([entry(4, 4), entry(5, 5)]).toString('base64') }
const ALL: ClientRule = {
  match: { commonName: '*' },
  allow: ['credential', 'keys', 'keytab', 'managed-password'],
  accounts: ['*'],
}
const local = (options: object = {}, secret?: string): AccountEntry => ({
  provider: 'local',
  options: { ...options },
  ...(secret !== undefined && { secret }),
})

async function keysRig(options: RigOptions = {}): Promise<Rig> {
  return makeRig({
    clients: [ALL],
    ...options,
    secrets: {
      'web01.json': JSON.stringify(RECORD),
      'sql01.json': JSON.stringify(KEYTAB),
      'nokvno.json': JSON.stringify({ ...RECORD, kvno: undefined }),
      'old.json': JSON.stringify({ ...RECORD, readAt: '2026-01-01T00:00:00Z' }),
      'bad.json': JSON.stringify({ ...RECORD, managedPassword: `${RECORD.managedPassword.slice(0, 40)}!` }),
      ...options.secrets,
    },
    config: {
      accounts: new Map([
        ['test-secret', local()],
        ['web01', local()],
        ['sql01', local()],
        ['nokvno', local()],
        ['old', local()],
        ['bad', local()],
        ['rc4', local({ enctypes: ['rc4'], servicePrincipalNames: [] }, 'web01')],
        ['absent', local()],
      ]),
      ...options.config,
    },
  })
}

/** The same, with the body's bytes as they are. */
async function bytesOf(rig: Rig, path: string): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const { request } = await import('node:https')
  const { client, ca } = rig.pki
  const options = { host: '127.0.0.1', port: rig.service.port, path, servername: 'localhost', agent: false }
  const outgoing = request(
    { ...options, ca: ca.certificate, cert: client.certificate, key: client.key },
    (response) => void response.toArray().then((chunks) => resolve(Buffer.concat(chunks)), reject),
  )
  outgoing.on('error', reject)
  outgoing.end()
  return promise
}

const problem = ({ status, body }: Reply) => ({ status, code: JSON.parse(body).code })

describe('the keys of a record with a managed password', () => {
  const clock = movableClock(Date.now())
  let rig: Rig
  beforeAll(async () => {
    rig = await keysRig({ clock })
  })
  afterAll(async () => await rig[Symbol.asyncDispose]())

  test('are those the domain controller wrote into its own keytab', async () => {
    const reply = await rig.get('/v1/accounts/web01/keys')
    expect(reply).toMatchObject({ status: 200, headers: { 'cache-control': 'no-store' } })
    expect(reply.headers['content-type']).toBe('application/json; charset=utf-8')
    const { keys, ...rest } = JSON.parse(reply.body)
    expect(rest).toMatchObject({
      account: 'web01',
      principal: 'web01$@AD.TEST',
      realm: 'AD.TEST',
      salt: 'AD.TESThostweb01.ad.test',
      kvno: KVNO,
      previousValidUntil: null,
    })
    expect(rest.refreshAt).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
    const exported: Readonly<Record<string, string>> = sample.dcExportedKeys.keys
    expect(keys[0]).toEqual({
      kvno: KVNO,
      enctype: 18,
      name: 'aes256-cts-hmac-sha1-96',
      key: Buffer.from(
        Object.entries(exported).find(([name]) => name.includes('18') || name.includes('aes256'))?.[1] ?? '',
        'hex',
      ).toString('base64'),
      phase: 'current',
    })
    expect(
      keys.map(({ kvno, enctype, phase }: { kvno: number; enctype: number; phase: string }) => [kvno, enctype, phase]),
    ).toEqual([
      [KVNO, 18, 'current'],
      [KVNO, 17, 'current'],
      [KVNO - 1, 18, 'previous'],
      [KVNO - 1, 17, 'previous'],
    ])
  })

  test.each([
    ['', ['HTTP/web01.ad.test@AD.TEST', 'HTTP/web01@AD.TEST'], [KVNO, KVNO - 1]],
    ['?for=acceptor', ['HTTP/web01.ad.test@AD.TEST', 'HTTP/web01@AD.TEST'], [KVNO, KVNO - 1]],
    ['?for=initiator', ['web01$@AD.TEST'], [KVNO]],
    ['?principal=HTTP/web01', ['HTTP/web01@AD.TEST'], [KVNO, KVNO - 1]],
    ['?principal=HTTP/web01&principal=web01$', ['HTTP/web01@AD.TEST', 'web01$@AD.TEST'], [KVNO, KVNO - 1]],
  ])('as a keytab%s', async (query, principals, kvnos) => {
    const entries = parseKeytab(await bytesOf(rig, `/v1/accounts/web01/keytab${query}`))
    expect([...new Set(entries.map(({ principal }) => formatPrincipal(principal)))]).toEqual(principals)
    expect([...new Set(entries.map(({ kvno }) => kvno))]).toEqual(kvnos)
    const { headers } = await rig.get(`/v1/accounts/web01/keytab${query}`)
    expect(headers).toMatchObject({ 'content-type': 'application/octet-stream', 'cache-control': 'no-store' })
  })

  test.each(['?for=x', '?for=acceptor&for=initiator', '?principal=HTTP/other', '?for=initiator&principal=HTTP/web01'])(
    'a keytab%s is refused with 400',
    async (query) => {
      const reply = await rig.get(`/v1/accounts/web01/keytab${query}`)
      expect(problem(reply)).toEqual({ status: 400, code: 'REQUEST_INVALID' })
    },
  )

  test('what the configuration says of enctypes and names holds', async () => {
    const entries = parseKeytab(await bytesOf(rig, '/v1/accounts/rc4/keytab'))
    expect([...new Set(entries.map(({ enctype }) => enctype))]).toEqual([23])
    expect([...new Set(entries.map(({ principal }) => formatPrincipal(principal)))]).toEqual(['web01$@AD.TEST'])
  })

  test('the managed password is the blob itself, with its age', async () => {
    expect(await bytesOf(rig, '/v1/accounts/web01/managed-password')).toEqual(BLOB)
    await clock.advance(3_000)
    const { headers } = await rig.get('/v1/accounts/web01/managed-password')
    expect(headers).toMatchObject({ 'content-type': 'application/octet-stream', 'cache-control': 'no-store', age: '3' })
  })

  test('without a kvno keys are refused, and the managed password is not', async () => {
    for (const kind of ['keys', 'keytab']) {
      expect(problem(await rig.get(`/v1/accounts/nokvno/${kind}`))).toEqual({ status: 409, code: 'KVNO_UNKNOWN' })
    }
    expect(await rig.get('/v1/accounts/nokvno/managed-password')).toMatchObject({ status: 200 })
  })

  test('a reading past its time gives nothing', async () => {
    for (const kind of ['keys', 'keytab', 'managed-password']) {
      expect(problem(await rig.get(`/v1/accounts/old/${kind}`))).toEqual({ status: 503, code: 'STORE_UNAVAILABLE' })
    }
  })

  test('a record that is no blob is refused, and never quoted', async () => {
    expect(problem(await rig.get('/v1/accounts/bad/keys'))).toEqual({ status: 502, code: 'MATERIAL_MALFORMED' })
    expect(JSON.stringify(rig.lines)).toContain('managedPassword is not base64')
    expect(JSON.stringify(rig.lines)).not.toContain(RECORD.managedPassword.slice(0, 20))
  })

  test('each kind is told from the others', async () => {
    for (const path of [
      'web01/credential',
      'test-secret/keys',
      'test-secret/managed-password',
      'sql01/managed-password',
    ]) {
      expect(problem(await rig.get(`/v1/accounts/${path}`)), path).toEqual({ status: 501, code: 'KIND_NOT_OFFERED' })
    }
    expect(rig.lines.map((line) => line['problem'])).toContain(
      'record of account sql01 holds a keytab, not a managed password',
    )
    expect(await rig.provider('web01')).toMatchObject({ status: 404, body: '' })
  })

  test('the list and the metrics know what was learnt', async () => {
    await rig.get('/v1/accounts/web01/keys')
    await rig.get('/v1/accounts/sql01/keys')
    const { accounts } = JSON.parse((await rig.get('/v1/accounts')).body)
    const known = accounts.find(({ name }: { name: string }) => name === 'web01')
    expect(known).toMatchObject({ kinds: ['keys', 'keytab', 'managed-password'], kvno: KVNO })
    expect(Date.parse(known.refreshAt)).toBeGreaterThan(Date.now())
    const sql = accounts.find(({ name }: { name: string }) => name === 'sql01')
    expect(sql).toEqual({ name: 'sql01', kinds: ['keys', 'keytab'] })
    expect(await metric(rig, 'account_kvno', { account: 'web01' })).toBe(KVNO)
    expect(await metric(rig, 'account_next_refresh_timestamp_seconds', { account: 'web01' })).toBeGreaterThan(
      Date.now() / 1000,
    )
    expect(rig.lines.findLast(({ account }) => account === 'web01')).toMatchObject({ kvno: KVNO, outcome: 'ok' })
  })

  test('those of a keytab are in force under its highest kvno', async () => {
    const { keys, ...rest } = JSON.parse((await rig.get('/v1/accounts/sql01/keys')).body)
    expect(rest).toMatchObject({
      principal: 'sql01$@AD.TEST',
      salt: 'AD.TESThostsql01.ad.test',
      kvno: 5,
      refreshAt: null,
    })
    expect(keys.map(({ kvno, phase }: { kvno: number; phase: string }) => `${kvno} ${phase}`)).toEqual([
      '5 current',
      '4 previous',
    ])
    const entries = parseKeytab(await bytesOf(rig, '/v1/accounts/sql01/keytab?for=initiator'))
    expect(entries.map(({ kvno, timestamp }) => [kvno, timestamp])).toEqual([[5, 1_700_000_000]])
  })

  test('nothing of a password or key is logged', async () => {
    const { keys } = JSON.parse((await rig.get('/v1/accounts/web01/keys')).body)
    await rig.get('/v1/accounts/web01/managed-password')
    const log = JSON.stringify(rig.lines)
    const metrics = (await rig.admin('/metrics')).body
    const secrets = [...keys.map(({ key }: { key: string }) => Buffer.from(key, 'base64')), BLOB.subarray(16, 48)]
    expect(secrets).toHaveLength(5)
    for (const secret of secrets) {
      for (const form of ['base64', 'hex'] as const) {
        expect(log).not.toContain(secret.toString(form).slice(0, 20))
        expect(metrics).not.toContain(secret.toString(form).slice(0, 20))
      }
    }
  })

  test.each(['POST', 'HEAD', 'DELETE'])('%s is not a method of theirs', async (method) => {
    for (const kind of ['keys', 'keytab', 'managed-password']) {
      expect(await rig.get(`/v1/accounts/web01/${kind}`, { method })).toMatchObject({ status: 405 })
    }
  })
})

describe('whom the policy denies', () => {
  const KINDS = ['credential', 'keys', 'keytab', 'keytab?for=x', 'managed-password']
  const bare = ({ status, headers, body }: Reply) => {
    const { date: _, ...rest } = headers
    return { status, rest, body: body.replace(/"instance":"[^"]*"/, '') }
  }

  test('sees of every kind what an absent account shows, byte for byte, and no store is touched', async () => {
    await using denied = await keysRig({ clients: [{ ...ALL, accounts: ['absent'] }] })
    for (const kind of KINDS.filter((kind) => !kind.includes('x'))) {
      const [no, none] = [
        await denied.get(`/v1/accounts/web01/${kind}`),
        await denied.get(`/v1/accounts/absent/${kind}`),
      ]
      expect(bare(no)).toEqual(bare(none))
      expect(no.status).toBe(404)
      expect(no.body.length).toBe(none.body.length)
    }
    expect(
      denied.lines.filter(({ account, code }) => account === 'web01' && code === 'ACCOUNT_FORBIDDEN'),
    ).toHaveLength(4)
    expect(
      JSON.parse((await denied.get('/v1/accounts')).body).accounts.map(({ name }: { name: string }) => name),
    ).toEqual(['absent'])
  })

  test('each kind is a permission of its own', async () => {
    for (const kind of ['keys', 'keytab', 'managed-password'] as const) {
      await using rig = await keysRig({ clients: [{ ...ALL, allow: [kind] }] })
      for (const other of ['keys', 'keytab', 'managed-password']) {
        const { status } = await rig.get(`/v1/accounts/web01/${other}`)
        expect(status, `${other} where ${kind} is allowed`).toBe(other === kind ? 200 : 404)
      }
    }
  })

  test('without a clients section nobody gets keys, nor what another provider logs on with', async () => {
    const { clients: _, ...open } = { clients: undefined }
    await using rig = await makeRig({
      ...open,
      secrets: {
        'web01.json': JSON.stringify(RECORD),
        'svc.json': JSON.stringify({ username: 'a', password: 'b', domainName: 'c' }),
      },
      config: {
        accounts: new Map([
          ['web01', local()],
          ['svc', local()],
          ['test-secret', local()],
        ]),
        reservedAccounts: new Set(['svc']),
      },
    })
    for (const path of ['web01/keys', 'web01/keytab', 'web01/managed-password', 'svc/credential']) {
      expect(problem(await rig.get(`/v1/accounts/${path}`)), path).toEqual({ status: 404, code: 'ACCOUNT_NOT_FOUND' })
    }
    expect(await rig.provider('svc')).toMatchObject({ status: 404, body: '' })
    expect(await rig.provider('test-secret')).toMatchObject({ status: 200 })
  })
})
