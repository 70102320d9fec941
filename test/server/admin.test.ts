import { spawnSync } from 'node:child_process'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import type { Provider } from '../../src/providers/provider.ts'
import { isLoopback, renderStatus } from '../../src/server/status-page.ts'
import { memoryStore } from '../fakes/memory-provider.ts'
import { makePki } from '../fakes/pki.ts'
import { makeRig, type Rig } from '../fakes/rig.ts'
import { needs } from '../lab/skip.ts'
import { credential, eventually, makeStore, metric, movableClock } from './wire.ts'

async function readyRig(options = {}): Promise<Rig> {
  const rig = await makeRig(options)
  await eventually(async () => (await rig.admin('/readyz')).status === 200, 'ready')
  return rig
}

describe('the status page', () => {
  test('shows versions, checks, accounts and certificates to this machine, and no secret', async () => {
    await using rig = await readyRig()
    const { status, headers, body } = await rig.admin('/')
    expect(status).toBe(200)
    expect(headers['content-type']).toBe('text/html; charset=utf-8')
    expect(headers['content-security-policy']).toContain("default-src 'none'")
    for (const said of ['0.0.0-test', 'provider-local', 'test-secret', 'client CA', 'days left'])
      expect(body).toContain(said)
    expect(body).not.toContain('<script')
    expect(body).not.toContain('ad.domain')
  })

  test.each(['evil.example', 'evil.example:9464', '127.0.0.1.evil.example', 'localhost.evil.example'])(
    'is refused under the foreign host %j',
    async (host) => {
      await using rig = await readyRig()
      expect(await rig.admin('/', { host })).toMatchObject({ status: 404, body: '' })
    },
  )

  test.each(['localhost', 'localhost:9464', '127.0.0.1', '[::1]:9464'])('is shown under %s', async (host) => {
    await using rig = await readyRig()
    expect((await rig.admin('/', { host })).status).toBe(200)
  })

  test('can be switched off', async () => {
    await using rig = await readyRig({ config: { admin: { host: '127.0.0.1', port: 0, statusPage: false } } })
    expect(await rig.admin('/')).toMatchObject({ status: 404, body: '' })
  })

  test('knows addresses of this machine from others, and shows names as text', () => {
    expect(['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1'].every(isLoopback)).toBe(true)
    expect(['10.0.0.1', '::2', '::ffff:10.0.0.1', '', undefined].some(isLoopback)).toBe(false)
    const at = new Date(0)
    const none = { version: '1', commit: 'c', startedAt: at, now: at, checks: [], certificates: [] }
    const page = renderStatus({ ...none, accounts: [{ name: '<b>"x"</b>', provider: "'&'" }] })
    expect(page).toContain('<td>&#60;b&#62;&#34;x&#34;&#60;/b&#62;</td><td>&#39;&#38;&#39;</td>')
  })
})

describe('the admin listener', () => {
  test.each(['/', '/livez', '/nothing'])('refuses a second Host for %s', async (path) => {
    await using rig = await readyRig()
    const socket = connect(rig.service.admin)
    socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n`)
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 .*\r\ncontent-length: 0\r\n.*\r\n\r\n$/is)
  })

  test('answers /livez, /readyz and /healthz in plain text', async () => {
    await using rig = await readyRig()
    for (const path of ['/livez', '/readyz', '/healthz']) {
      const reply = await rig.admin(path)
      expect(reply).toMatchObject({ status: 200, body: 'ok\n' })
      expect(reply.headers['content-type']).toMatch(/^text\/plain/)
    }
  })

  test('names every check with ?verbose, and leaves out what ?exclude names', async () => {
    await using rig = await readyRig()
    const { body } = await rig.admin('/readyz?verbose')
    expect(body.trimEnd().split('\n')).toEqual([
      '[+]started ok',
      '[+]draining ok',
      '[+]certificate ok',
      '[+]providers ok',
      '[+]provider-local ok',
      'readyz check passed',
    ])
    const excluded = await rig.admin('/healthz?verbose&exclude=providers&exclude=provider-local')
    expect(excluded.body).toContain('[+]providers excluded: ok\n[+]provider-local excluded: ok\n')
  })

  test.each([
    ['GET', '/'],
    ['GET', '/nothing'],
    ['GET', '/provider'],
    ['GET', '/v1/accounts'],
    ['GET', '/%zz'],
  ])('%s %s is answered without a JSON body', async (_method, path) => {
    await using rig = await makeRig()
    const reply = await rig.admin(path)
    if (path === '/' && reply.status === 200) return
    expect([400, 404]).toContain(reply.status)
    expect(reply.body).toBe('')
    expect(reply.headers['content-length']).toBe('0')
  })

  test('hands out nothing of the stores', async () => {
    await using rig = await readyRig()
    await rig.provider('test-secret')
    for (const path of ['/metrics', '/readyz?verbose', '/provider', '/v1/accounts/test-secret/credential']) {
      const { body } = await rig.admin(path, { object: 'test-secret' })
      expect(body).not.toContain('ad.domain')
    }
  })
})

describe('/readyz', () => {
  test('is 503 while no provider has ever answered', async () => {
    let up = false
    const store = {
      ...makeStore(),
      async probe() {
        if (!up) throw new GmsaError('STORE_UNAVAILABLE', 'connection refused')
      },
    }
    await using rig = await makeRig({ providers: new Map([['local', store]]) })
    await eventually(async () => (await rig.admin('/readyz')).body.includes('STORE_UNAVAILABLE'), 'probed')
    const { status, body } = await rig.admin('/readyz')
    expect(status).toBe(503)
    expect(body).toContain('[-]providers failed: no provider has answered yet\n')
    expect((await rig.admin('/livez')).status).toBe(200)
    expect(await metric(rig, 'provider_up', { provider: 'local' })).toBe(0)
    expect((await rig.admin('/readyz?exclude=providers')).status).toBe(200)
    // Any read that the store answers counts as well.
    up = true
    expect(await rig.provider('test-secret')).toMatchObject({ status: 200 })
    expect((await rig.admin('/readyz')).status).toBe(200)
    expect(await metric(rig, 'provider_up', { provider: 'local' })).toBe(1)
  })

  test('stays 200 when a provider fails later, and names it', async () => {
    let out = false
    const store = makeStore(async () => {
      if (out) throw new GmsaError('STORE_UNAVAILABLE', 'connection refused')
      return credential()
    })
    await using rig = await readyRig({
      providers: new Map([['local', store]]),
      config: { cache: { maxAge: 0, serveStale: 0 } },
    })
    out = true
    expect(await rig.provider('test-secret')).toMatchObject({ status: 503, body: '' })
    const { status, body } = await rig.admin('/readyz?verbose')
    expect(status).toBe(200)
    expect(body).toContain('[-]provider-local failed: STORE_UNAVAILABLE\n')
    expect(await metric(rig, 'provider_up', { provider: 'local' })).toBe(0)
  })

  test('is 503 once the server certificate has expired, until a valid one is there', async () => {
    const clock = movableClock()
    await using rig = await readyRig({ clock })
    clock.moveTo(Date.now() + 48 * 3_600_000)
    const { status, body } = await rig.admin('/readyz')
    expect(status).toBe(503)
    expect(body).toContain('[-]certificate failed: the server certificate is not valid now\n')
    clock.moveTo(Date.now())
    expect((await rig.admin('/readyz')).status).toBe(200)
  })
})

describe('/metrics', () => {
  /** Those of the interface that exist by now. */
  const NAMES = [
    'requests_total',
    'request_duration_seconds_bucket',
    'request_duration_seconds_count',
    'provider_reads_total',
    'provider_read_duration_seconds_count',
    'provider_up',
    'cache_reads_total',
    'account_last_success_timestamp_seconds',
    'account_stale',
    'certificate_expiry_timestamp_seconds',
    'certificate_start_timestamp_seconds',
    'certificate_reload_total',
    'tls_rejected_total',
    'ccg_debug_log_enabled',
    'build_info',
  ]

  async function usedRig(): Promise<Rig> {
    const pki = await makePki()
    const files = await makeRig({ pki })
    const directory = join(files.directory, 'host')
    await files.service.stop()
    const ccg = { directory, namespace: 'ns', client: files.files.client }
    const rig = await readyRig({ pki, crl: await pki.ca.crl(), config: { ccg } })
    await rig.provider('test-secret')
    await rig.provider('unknown')
    await rig.get('/nothing')
    await rig.get('/v1/accounts', { client: null }).catch(() => undefined)
    await eventually(async () => (await metric(rig, 'tls_rejected_total')) > 0, 'a rejected handshake')
    return rig
  }

  test('has every metric of the interface, in the Prometheus text format', async () => {
    await using rig = await usedRig()
    const { status, headers, body } = await rig.admin('/metrics')
    expect(status).toBe(200)
    expect(headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
    for (const name of NAMES) expect(body).toMatch(new RegExp(`^gmsa_provider_${name}[{ ]`, 'm'))
    expect(body).toMatch(/^process_cpu_seconds_total /m)
    const requests = (labels: Record<string, string>) => metric(rig, 'requests_total', labels)
    expect(await requests({ route: '/provider', code: '200', outcome: 'ok', reason: 'none' })).toBe(1)
    expect(await requests({ route: '/provider', code: '404', outcome: 'refused' })).toBe(1)
    expect(await requests({ route: 'none', code: '404', reason: 'ROUTE_NOT_FOUND' })).toBe(1)
    for (const role of ['server', 'client_ca', 'ccg_client'])
      expect(await metric(rig, 'certificate_expiry_timestamp_seconds', { role })).toBeGreaterThan(Date.now() / 1000)
    expect(await metric(rig, 'build_info', { version: '0.0.0-test' })).toBe(1)
  })

  test('P4: log-ons by password are counted by credential and outcome', async () => {
    const { provider } = memoryStore('ad')
    const watchLogOns: Provider['watchLogOns'] = (tried) => {
      tried('current', 'refused')
      for (const outcome of ['ok', 'ok'] as const) tried('previous', outcome)
      return { [Symbol.dispose]() {} }
    }
    await using rig = await makeRig({ providers: new Map([['ad', { ...provider, watchLogOns }]]) })
    const tries = (credential: string, outcome: string) =>
      metric(rig, 'directory_log_ons_total', { provider: 'ad', credential, outcome })
    expect(await Promise.all([tries('current', 'refused'), tries('previous', 'ok')])).toEqual([1, 2])
  })

  test.skipIf(!needs('prometheus'))('passes promtool check metrics', async () => {
    await using rig = await usedRig()
    const { body } = await rig.admin('/metrics')
    const checked = spawnSync('promtool', ['check', 'metrics'], { input: body, timeout: 10_000 })
    expect(`${checked.stdout}${checked.stderr}`).toBe('')
    expect(checked.status).toBe(0)
  })

  test('has no series that a stranger could multiply', async () => {
    await using rig = await readyRig({
      clients: [{ match: { uri: 'spiffe://localhost/**' }, allow: ['credential'], accounts: ['*'] }],
      config: { accounts: new Map([['*', { provider: 'local', options: {} }]]) },
    })
    const series = async () =>
      (await rig.admin('/metrics')).body.split('\n').filter((line) => /^gmsa/.test(line)).length
    const visit = async (index: number) => {
      await rig.provider(`account-${index}`)
      await rig.get(`/path-${index}`)
      await rig.get(`/v1/accounts/account-${index}/credential`)
      await rig.get(`/%z${index}`)
    }
    await visit(0)
    const before = await series()
    for (let index = 1; index < 20; index++) await visit(index)
    expect(await series()).toBe(before)
  })
})

test('requests that no route takes, and those refused before routing, are in log and metrics', async () => {
  await using rig = await makeRig()
  await rig.get('/%zz')
  await rig.get('/nothing')
  const lines = rig.lines.filter(({ message }) => message === 'request')
  expect(lines.map(({ route, code, status }) => [route, code, status])).toEqual([
    ['none', 'REQUEST_INVALID', 400],
    ['none', 'ROUTE_NOT_FOUND', 404],
  ])
  for (const line of lines) expect(line).toMatchObject({ client: 'spiffe://localhost/client/test' })
})

describe('a port that is taken', () => {
  test('is an error that says what to do', async () => {
    await using first = await makeRig()
    const error = await makeRig({ config: { admin: first.service.admin } }).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', hint: expect.stringContaining('another admin.port') })
  })

  test('is left for another one where that will do, with a warning', async () => {
    await using first = await makeRig()
    const { port } = first.service.admin
    await using second = await makeRig({ config: { admin: { ...first.service.admin, orAnyPort: true } } })
    expect(second.service.admin.port).not.toBe(port)
    expect((await second.admin('/livez')).status).toBe(200)
    const moved = { level: 'warn', wanted: port, port: second.service.admin.port }
    expect(second.lines).toContainEqual(expect.objectContaining(moved))
    expect(first.lines.filter(({ wanted }) => wanted !== undefined)).toEqual([])
  })
})
