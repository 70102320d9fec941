import { readFile, writeFile } from 'node:fs/promises'
import { Agent } from 'node:https'
import pino from 'pino'
import { describe, expect, test } from 'vitest'
import { makeRig, type Reply, type Rig, type RigOptions } from '../fakes/rig.ts'
import { makeStore, openWire } from './wire.ts'

/** Secrets that must turn up nowhere but in a good answer. Each is told apart by its beginning. */
const CANARY = {
  password: 'canary-password-8d1f',
  token: 'canary-token-77aa',
  broken: 'canary-broken-41c0',
  thrown: 'canary-thrown-9be2',
}

const RECORDS: Record<string, string> = {
  'good.json': JSON.stringify({ username: 'user', password: CANARY.password, domainName: 'AD' }),
  'yaml.yaml': `username: user\npassword: ${CANARY.password}\ndomainName: AD\n`,
  // Malformed in ways in which a parser likes to quote what it met.
  'cut.json': `{"username":"user","password":"${CANARY.broken}`,
  'comma.json': `{"username":"user","password":"${CANARY.broken}",,}`,
  'bare.json': CANARY.broken,
  'array.json': `["${CANARY.broken}"]`,
  'number.json': `{"username":"user","password":{"value":"${CANARY.broken}"},"domainName":"AD"}`,
  'newline.json': JSON.stringify({ username: 'user', password: `${CANARY.broken}\n`, domainName: 'AD' }),
  'control.json': JSON.stringify({ username: `${CANARY.broken}\u0001`, password: CANARY.broken, domainName: 'AD' }),
  'tab.yaml': `username: user\n\tpassword: ${CANARY.broken}\n`,
  'tag.yaml': `username: !!${CANARY.broken} x\npassword: ${CANARY.broken}\n`,
  'alias.yaml': `password: *${CANARY.broken}\n`,
  'twice.yaml': `password: ${CANARY.broken}\npassword: ${CANARY.broken}\n`,
  'quote.yaml': `password: "${CANARY.broken}\nusername: x\n`,
  'utf8.json': `{"password":"${CANARY.broken}\ud800"}`,
}
const ACCOUNTS = [...new Set(Object.keys(RECORDS).map((name) => name.split('.')[0] ?? ''))]

/** The log as the command line makes it, at its most talkative, into a buffer. */
function pinoLog() {
  const written: string[] = []
  const log = pino({ level: 'trace', base: null }, { write: (line: string) => void written.push(line) })
  return { log, written }
}

function makeCanaryRig(options: RigOptions = {}): Promise<Rig> {
  return makeRig({
    secrets: RECORDS,
    ...options,
    config: {
      accounts: new Map([...ACCOUNTS, 'absent'].map((name) => [name, { provider: 'local', options: {} }])),
      limits: { requestsPerSecond: 100_000 },
      cache: { maxAge: 5, serveStale: 1_000 },
      ...options.config,
    },
  })
}

const HEADERS = {
  authorization: `Bearer ${CANARY.token}`,
  'x-vault-token': CANARY.token,
  cookie: `session=${CANARY.token}`,
  'proxy-authorization': `Basic ${CANARY.token}`,
}

/** One of many kinds of request, by its number. */
function ask(rig: Rig, index: number, agent: Agent): Promise<Reply> {
  const account = ACCOUNTS[index % ACCOUNTS.length] ?? ''
  const options = { headers: HEADERS, agent }
  switch (index % 9) {
    case 0:
      return rig.get(`/v1/accounts/${account}/credential`, options)
    case 1:
      return rig.get('/v1/accounts', options)
    case 2:
      return rig.get(`/nothing?token=${CANARY.token}`, options)
    case 3:
      return rig.get(`/v1/accounts/%zz${CANARY.token}/credential`, options)
    case 4:
      return rig.provider(account, { ...options, method: 'POST', body: CANARY.token })
    case 5:
      return rig.get('/provider', options)
    default:
      return rig.provider(account, { headers: { ...HEADERS, object: account }, agent })
  }
}

function expectClean(what: string, text: string): void {
  for (const canary of Object.values(CANARY))
    for (const form of [
      canary,
      Buffer.from(canary).toString('base64').slice(0, -4),
      Buffer.from(canary).toString('hex'),
    ])
      expect(text.includes(form), `${what} holds ${canary}`).toBe(false)
}

describe('a secret', () => {
  test('is delivered in good answers, and turns up nowhere else in 1,200 requests', async () => {
    const { log, written } = pinoLog()
    await using rig = await makeCanaryRig({ log })
    const key = await readFile(rig.files.server.key, 'utf8')
    const clientKey = await readFile(rig.files.client.key, 'utf8')
    const agent = new Agent({ keepAlive: true, maxSockets: 8 })
    const delivered = new Set<string>()
    for (let round = 0; round < 30; round++) {
      const replies = await Promise.all(Array.from({ length: 40 }, (_, index) => ask(rig, round * 40 + index, agent)))
      for (const { status, headers, body } of replies) {
        expectClean('a header', JSON.stringify(headers))
        if (status === 200 && body.includes(CANARY.password)) delivered.add(body)
        else expectClean(`an answer ${status}`, body)
      }
    }
    agent.destroy()
    using wire = await openWire(rig)
    wire.write(`GET /provider HTTP/1.1\r\nAuthorization ${CANARY.token}\r\n\r\n`)
    expectClean('a refusal below the framework', (await wire.next()).head)
    await rig.service.reloadTls()
    const pages = await Promise.all(['/metrics', '/readyz?verbose', '/'].map((path) => rig.admin(path, HEADERS)))
    for (const page of pages) expectClean('the admin listener', page.body)
    await rig.service.stop()

    expect([...delivered]).toEqual([`{"username":"user","password":"${CANARY.password}","domainName":"AD"}`])
    const everything = written.join('') + JSON.stringify(rig.lines)
    expect(written.length).toBeGreaterThan(1_200)
    expect(everything).toContain('"request"')
    expectClean('the log', everything)
    for (const pem of [key, clientKey]) {
      const heart = pem.split('\n')[1] ?? ''
      expect(heart.length).toBeGreaterThan(40)
      expect(everything.includes(heart)).toBe(false)
    }
  })

  test('in a key file that is broken or does not fit is not quoted', async () => {
    const { log, written } = pinoLog()
    await using rig = await makeCanaryRig({ log })
    const other = (await rig.pki.ca.issueServer()).key
    const texts = [
      `-----BEGIN PRIVATE KEY-----\n${CANARY.broken}\n-----END PRIVATE KEY-----\n`,
      CANARY.broken,
      other,
      other.slice(0, -60),
    ]
    for (const text of texts) {
      await writeFile(rig.files.server.key, text)
      await rig.service.reloadTls()
      expect(rig.lines.filter(({ part }) => part === 'certificate').length).toBeGreaterThan(0)
      const started = makeRig({
        pki: rig.pki,
        config: { tls: { ...rig.files.server, clientCa: rig.files.ca, crlExpired: 'refuse' } },
      })
      const refusal = await started.catch((error) => error)
      expect(refusal.code).toBe('CONFIG_INVALID')
      const shown = [refusal.message, refusal.stack, refusal.hint, String(refusal.cause)].join('\n')
      expectClean('the error', shown)
      expect(shown.includes(other.split('\n')[1] ?? '')).toBe(false)
    }
    const everything = written.join('') + JSON.stringify(rig.lines)
    expectClean('the log', everything)
    expect(everything.includes(other.split('\n')[1] ?? '')).toBe(false)
  })

  test('is not held by what the log shows of a credential', async () => {
    const { log, written } = pinoLog()
    await using rig = await makeCanaryRig({ log })
    await rig.provider('good')
    const line = JSON.parse(written.find((each) => each.includes('"msg":"request"')) ?? '{}')
    expect(Object.keys(line).sort()).toEqual(
      [
        'account',
        'address',
        'client',
        'id',
        'level',
        'method',
        'ms',
        'msg',
        'outcome',
        'provider',
        'route',
        'serial',
        'status',
        'time',
      ].sort(),
    )
  })

  test('in what a store throws is not sent, not counted and not logged; where it was thrown is', async () => {
    const { log, written } = pinoLog()
    const store = makeStore(async () => {
      const cause = Object.assign(new Error(`cut off:\n    at ${CANARY.thrown}`), { body: CANARY.thrown })
      throw new SyntaxError(`unexpected token in ${CANARY.thrown}`, { cause })
    })
    await using rig = await makeCanaryRig({ log, providers: new Map([['local', store]]) })
    for (const path of ['/provider', '/v1/accounts/good/credential']) {
      const reply = await rig.get(path, { headers: { object: 'good' } })
      expect(reply.status).toBe(500)
      expectClean('the answer', JSON.stringify(reply))
    }
    expectClean('the metrics', (await rig.admin('/metrics')).body)
    expectClean('the probes', (await rig.admin('/readyz?verbose')).body)
    expectClean('the log', written.join(''))
    const { fault } = JSON.parse(written.find((line) => line.includes('"unexpected error"')) ?? '{}')
    expect(fault).toMatchObject({ type: 'SyntaxError', cause: { type: 'Error' } })
    expect(fault.stack[0]).toContain('canary.test.ts')
  })
})

test('this test would see a leak', () => {
  expect(() => expectClean('x', `…${CANARY.password}…`)).toThrow()
  expect(() => expectClean('x', Buffer.from(CANARY.token).toString('hex'))).toThrow()
})
