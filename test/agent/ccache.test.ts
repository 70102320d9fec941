import { readFile, stat, unlink, writeFile } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Agent } from '../../src/agent/agent.ts'
import type { OutputConfig } from '../../src/agent/config.ts'
import { Secret } from '../../src/base/secret.ts'
import { aesSha1StringToKey } from '../../src/crypto/string-to-key.ts'
import { utf16ToUtf8 } from '../../src/gmsa/managed-password.ts'
import { type Ccache, formatCcache, parseCcache } from '../../src/kerberos/ccache.ts'
import { KRB_ERRORS } from '../../src/kerberos/error-codes.ts'
import { formatPrincipal, parsePrincipal } from '../../src/kerberos/principal.ts'
import { type AgentRig, CHANGE, HOUR, identityOf, MINUTE, makeAgentRig } from '../fakes/agent-rig.ts'
import { type Answer, type FakeKdc, startKdc } from '../fakes/kdc.ts'
import { errorMessage, methods, replyMessage, type SeenRequest, timestampOf } from '../fakes/kdc-messages.ts'
import { eventually } from '../server/wire.ts'

const SALT = 'AD.TESThostweb01.ad.test'
/** TicketFlags of RFC 4120 5.3. */
const RENEWABLE = 0x0080_0000
const WEEK = 7 * 24 * HOUR
let at: AgentRig
let kdc: FakeKdc
let krb5Config: string
/** What the KDC answers in place of the truth. */
let instead: ((request: SeenRequest) => Answer | undefined) | undefined
/** The longest life it gives, in ms. */
let most: number
const keys = new Map<number, Uint8Array>()

beforeEach(async () => {
  instead = undefined
  most = 10 * HOUR
  at = await makeAgentRig()
  const generation = at.directory.generationAt(at.clock.now())
  for (const each of [generation, generation + 1]) {
    const password = utf16ToUtf8(at.directory.passwordOf(each))
    keys.set(each, await aesSha1StringToKey(32, password, Buffer.from(SALT)))
  }
  kdc = await startKdc(honest)
  krb5Config = at.path('krb5.conf')
  await writeFile(krb5Config, `[realms]\n AD.TEST = {\n  kdc = ${kdc.kdc.host}:${kdc.kdc.port}\n }\n`)
})
afterEach(async () => {
  await at[Symbol.asyncDispose]()
  await kdc[Symbol.asyncDispose]()
})

/** A KDC of the directory's own clock, which takes the key in force and none else. */
function honest(request: SeenRequest): Answer {
  const now = at.clock.now()
  const key = keys.get(at.directory.generationAt(now)) ?? new Uint8Array(32)
  const hint = methods([{ enctype: 18, salt: SALT }])
  const other = instead?.(request)
  if (other !== undefined) return other
  if (!request.preauth.has(2)) return errorMessage(KRB_ERRORS.KDC_ERR_PREAUTH_REQUIRED, now, hint)
  if (timestampOf(request, 18, key) === undefined) return errorMessage(KRB_ERRORS.KDC_ERR_PREAUTH_FAILED, now, hint)
  const seconds = Math.floor(now / 1000) * 1000
  return replyMessage({
    client: request.client,
    realm: request.realm,
    server: ['krbtgt', 'AD.TEST'],
    ticketServer: ['krbtgt', 'AD.TEST'],
    nonce: request.nonce,
    flags: 0x0060_0000 | (request.renewTill === undefined ? 0 : RENEWABLE),
    authTime: seconds,
    startTime: seconds,
    endTime: Math.min(request.till, seconds + most),
    renewTill: request.renewTill,
    sessionKey: { enctype: 18, key: new Uint8Array(32).fill(9) },
    enctype: 18,
    key,
    kvno: undefined,
    padata: undefined,
    partTag: 25,
  })
}

const output = (more: Partial<OutputConfig> = {}) => [
  { kind: 'ccache' as const, file: at.path('krb5cc'), ticket: { lifetime: 10 * HOUR, forwardable: false }, ...more },
]
const once = async (more: Partial<OutputConfig> = {}) => (await at.once(output(more), { krb5Config }))[0]
const start = (more: Partial<OutputConfig> = {}) => at.start(output(more), { krb5Config })
const ccache = async (): Promise<Ccache> => parseCcache(await readFile(at.path('krb5cc')))
const ticketNow = async () => {
  const [ticket] = (await ccache()).credentials
  return ticket ?? expect.unreachable()
}
/**
 * Lets time pass: at once up to where a new ticket is due, and from there a second at a time until it is there, so that
 * what is on its way does not run out of time.
 */
async function pass(agent: Agent, ms: number): Promise<void> {
  const until = at.clock.now() + ms
  const due = () => Date.parse(agent.status().outputs[0]?.refreshAt ?? '')
  while (at.clock.now() < until) {
    const calm = Math.min(until, due() - 1_000) - at.clock.now()
    await at.clock.advance(calm > 0 ? calm : 1_000)
    for (let looks = 0; looks < 30 && due() <= at.clock.now(); looks++) await pause(10)
  }
}

/** Tickets given so far. */
const given = () => kdc.seen.filter(({ preauth }) => preauth.has(2)).length

describe('a credential cache', () => {
  test('T1: holds a ticket-granting ticket of the account, in a file of mode 0600', async () => {
    expect((await once())?.error).toBeUndefined()
    const { principal, credentials } = await ccache()
    expect(formatPrincipal(principal)).toBe('web01$@AD.TEST')
    expect(credentials.map(({ server }) => formatPrincipal(server))).toEqual(['krbtgt/AD.TEST@AD.TEST'])
    const { startTime, endTime } = await ticketNow()
    expect(endTime - startTime).toBe((10 * HOUR) / 1000)
    expect((await stat(at.path('krb5cc'))).mode & 0o7777).toBe(0o600)
  })

  test('T2: with the mode and owner asked for, which are set right again', async () => {
    await once()
    const bytes = await readFile(at.path('krb5cc'))
    const isRoot = process.getuid?.() === 0
    const owner = isRoot ? '1654' : String(process.getuid?.())
    await once({ mode: 0o640, owner })
    expect(await stat(at.path('krb5cc'))).toMatchObject({ uid: Number(owner) })
    expect((await stat(at.path('krb5cc'))).mode & 0o7777).toBe(0o640)
    expect((await readFile(at.path('krb5cc'))).equals(bytes)).toBe(true)
    expect(given()).toBe(1)
  })

  test.each([
    ['10 hours', 10 * HOUR, 12 * HOUR, 10 * MINUTE, undefined],
    ['30 minutes', 30 * MINUTE, 12 * HOUR, 2 * MINUTE, undefined],
    ['30 minutes, renewable for a week', 30 * MINUTE, 12 * HOUR, 2 * MINUTE, WEEK],
    ['10 minutes', 10 * MINUTE, HOUR, 20_000, undefined],
  ])(
    'T1, T3: more than half its life of %s is always left',
    async (_name, life, during, step, renewLifetime) => {
      most = life
      const ticket = { lifetime: 10 * HOUR, forwardable: false, ...(renewLifetime !== undefined && { renewLifetime }) }
      const agent = await start({ ticket })
      await agent.ready
      expect((await ticketNow()).renewTill > 0).toBe(renewLifetime !== undefined)
      let least = Number.POSITIVE_INFINITY
      for (let passed = 0; passed < during; passed += step) {
        await pass(agent, step)
        const { endTime } = await ticketNow()
        least = Math.min(least, endTime * 1000 - at.clock.now())
      }
      expect(least).toBeGreaterThan(life / 2)
      // Not more often than needed.
      expect(given()).toBeLessThanOrEqual(Math.ceil(during / (life * 0.4)) + 1)
      expect(agent.status().ready).toBe(true)
    },
    60_000,
  )

  test('T1: at every second of an hour the ticket in the file has not ended, with tickets of ten minutes', async () => {
    most = 10 * MINUTE
    const agent = await start()
    await agent.ready
    for (let second = 0; second < 3600; second++) {
      await pass(agent, 1_000)
      const { startTime, endTime } = await ticketNow()
      const now = at.clock.now() / 1000
      if (now < startTime || now >= endTime) expect.fail(`second ${second}: ${startTime} to ${endTime}, now ${now}`)
    }
    expect(given()).toBeGreaterThanOrEqual(12)
  }, 60_000)

  test('T1: through a change of the password tickets go on, with the key of each time', async () => {
    most = 20 * MINUTE
    const agent = await start()
    await agent.ready
    await at.advance(50 * MINUTE)
    expect(at.clock.now()).toBeGreaterThan(CHANGE)
    expect(agent.status().outputs[0]).toMatchObject({ ready: true, kvno: 10 })
    expect((await ticketNow()).startTime * 1000).toBeGreaterThan(CHANGE)
  })

  test('a restart keeps a ticket that is good, and one of another client is replaced', async () => {
    await once()
    const before = await identityOf(at.path('krb5cc'))
    await once()
    expect(await identityOf(at.path('krb5cc'))).toBe(before)
    const { credentials } = await ccache()
    const other = parsePrincipal('other$@AD.TEST')
    await writeFile(
      at.path('krb5cc'),
      formatCcache({ principal: other, credentials: credentials.map((each) => ({ ...each, client: other })) }),
    )
    await once()
    expect(formatPrincipal((await ccache()).principal)).toBe('web01$@AD.TEST')
  })

  test('service tickets that clients put beside it are no change, and no ticket-granting ticket', async () => {
    await once()
    const { principal, credentials } = await ccache()
    const [ticket = expect.unreachable()] = credentials
    const service = { ...ticket, server: parsePrincipal('HTTP/x@AD.TEST') }
    await writeFile(at.path('krb5cc'), formatCcache({ principal, credentials: [ticket, service] }), { mode: 0o600 })
    expect(await once()).toMatchObject({ entries: 2 })
    expect(given()).toBe(1)
    await writeFile(at.path('krb5cc'), formatCcache({ principal, credentials: [service] }), { mode: 0o600 })
    expect(await once()).toMatchObject({ entries: 1 })
    expect(given()).toBe(2)
  })

  test.each([
    ['nothing', ''],
    ['half a file', '\x05\x04\x00'],
    ['something else', 'not a ccache at all'],
  ])('%s in its place is replaced', async (_what, content) => {
    await writeFile(at.path('krb5cc'), content)
    expect((await once())?.error).toBeUndefined()
    expect((await ccache()).credentials).toHaveLength(1)
  })

  test('that somebody removed is there again within a minute or so', async () => {
    const agent = await start()
    await agent.ready
    await unlink(at.path('krb5cc'))
    await at.advance(2 * MINUTE)
    expect((await ccache()).credentials).toHaveLength(1)
  })

  test('H1: a hook runs for each new ticket', async () => {
    const onChange = {
      command: ['sh', '-c', `echo "$GMSA_KIND $GMSA_KVNO" >> '${at.path('runs')}'`],
      timeout: 5_000,
    } as const
    await once({ onChange: { ...onChange, command: [...onChange.command] } })
    await once({ onChange: { ...onChange, command: [...onChange.command] } })
    expect(await readFile(at.path('runs'), 'utf8')).toBe('ccache 9\n')
  })
})

describe('when a ticket can’t be had', () => {
  test('from a silent service: the keys in hand do', async () => {
    most = 20 * MINUTE
    const agent = await start()
    await agent.ready
    await at.rig.service.stop()
    const { startTime } = await ticketNow()
    for (let minute = 0; minute < 15; minute++) await pass(agent, MINUTE)
    expect((await ticketNow()).startTime).toBeGreaterThan(startTime)
    expect(agent.status()).toMatchObject({ ready: true })
  })

  test('with a key that is not in force any more: the keys are asked for anew', async () => {
    most = 20 * MINUTE
    const agent = await start()
    await agent.ready
    let refused = 0
    instead = (request) => {
      if (!request.preauth.has(2) || refused > 0) return undefined
      refused += 1
      return errorMessage(KRB_ERRORS.KDC_ERR_PREAUTH_FAILED, at.clock.now())
    }
    const asked = () =>
      at.rig.lines.filter(({ route, status }) => String(route).endsWith('/keytab') && status === 200).length
    const before = asked()
    for (let minute = 0; minute < 12; minute++) await pass(agent, MINUTE)
    expect(refused).toBe(1)
    expect(asked()).toBe(before + 1)
    expect(agent.status().outputs[0]?.problem).toBeUndefined()
    expect((await ticketNow()).endTime * 1000 - at.clock.now()).toBeGreaterThan(10 * MINUTE)
  })

  test('O1: the old one stays and is good until it ends; then the agent is not ready, and says why', async () => {
    most = 20 * MINUTE
    const agent = await start()
    await agent.ready
    const before = await identityOf(at.path('krb5cc'))
    instead = () => errorMessage(KRB_ERRORS.KDC_ERR_CLIENT_REVOKED, at.clock.now())
    await at.advance(18 * MINUTE)
    expect(agent.status()).toMatchObject({ ready: true, outputs: [{ problem: { code: 'STORE_DENIED' } }] })
    await at.advance(3 * MINUTE)
    expect(agent.status()).toMatchObject({ ready: false })
    expect(agent.status().outputs[0]?.reason).toMatch(/^the ticket ended .* \(STORE_DENIED: /)
    expect(await identityOf(at.path('krb5cc'))).toBe(before)
  })

  test('for there is no KDC: an error that says so, within ten seconds, and no file', async () => {
    await writeFile(krb5Config, '[libdefaults]\n dns_lookup_kdc = false\n')
    expect((await once())?.error).toMatchObject({ code: 'STORE_UNAVAILABLE', reason: 'not-found' })
    await expect(stat(at.path('krb5cc'))).rejects.toThrow('ENOENT')
  })

  test('S1: no key is in what is said', async () => {
    instead = () => errorMessage(KRB_ERRORS.KDC_ERR_PREAUTH_FAILED, at.clock.now())
    const agent = await start()
    await eventually(() => agent.status().outputs[0]?.problem !== undefined, 'the problem')
    const said = JSON.stringify([at.lines, agent.status()])
    for (const key of keys.values()) expect(said).not.toContain(new Secret(Buffer.from(key)).revealText())
    for (const key of keys.values()) expect(said).not.toContain(Buffer.from(key).toString('hex'))
  })
})
