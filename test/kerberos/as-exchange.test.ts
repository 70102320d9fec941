import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import type { ErrorCode, GmsaError, Reason } from '../../src/base/errors.ts'
import { Secret } from '../../src/base/secret.ts'
import type { EncryptionType } from '../../src/crypto/encryption.ts'
import { readKdcTime, requestTicket, type TicketRequest } from '../../src/kerberos/as-exchange.ts'
import { formatCcache, parseCcache } from '../../src/kerberos/ccache.ts'
import { KRB_ERRORS } from '../../src/kerberos/error-codes.ts'
import { UDP_PREFERENCE_LIMIT } from '../../src/kerberos/kdc.ts'
import { formatPrincipal } from '../../src/kerberos/principal.ts'
import { printed } from '../contract/printed.ts'
import { failure } from '../contract/provider-contract.ts'
import { movableClock } from '../fakes/clock.ts'
import {
  type Answer,
  errorMessage,
  type Info,
  methods,
  type Reply,
  replyMessage,
  type SeenRequest,
  startKdc,
  timestampOf,
} from '../fakes/kdc.ts'

const NOW = Date.UTC(2026, 0, 1)
const SALT = 'AD.TESThostweb01.ad.test'
const HOUR = 3_600_000
const RENEWABLE = 0x0080_0000
const FORWARDABLE = 0x4000_0000
const keyOf = (enctype: EncryptionType, fill: number = enctype) =>
  new Uint8Array(enctype === 18 || enctype === 20 ? 32 : 16).fill(fill)
const client = { realm: 'AD.TEST', components: ['web01$'], nameType: 1 }
const tgs = ['krbtgt', 'AD.TEST']

interface Behaviour {
  /** How far its clock is ahead of the client's. */
  readonly ahead?: number
  readonly preauth?: boolean
  readonly info?: readonly Info[]
  readonly cookie?: string
  readonly enctype?: EncryptionType
  /** What is other than it should be in the reply. */
  readonly reply?: Partial<Reply> | ((request: SeenRequest) => Partial<Reply>)
  /** Called first; an answer of its own ends the matter. */
  readonly first?: (request: SeenRequest) => Answer | undefined
}

/** What an honest KDC answers, with what is changed. The timestamp has to be right within five minutes. */
function honest(behaviour: Behaviour = {}) {
  const { ahead = 0, preauth = true, enctype = 18, cookie, first, reply = {} } = behaviour
  const info = behaviour.info ?? [{ enctype, salt: SALT, rounds: 4096 }]
  return (request: SeenRequest): Answer => {
    const own = first?.(request)
    if (own !== undefined) return own
    const now = NOW + ahead
    const hint = methods(info, cookie)
    if (preauth && !request.preauth.has(2)) return errorMessage(KRB_ERRORS.KDC_ERR_PREAUTH_REQUIRED, now, hint)
    if (preauth) {
      const time = timestampOf(request, enctype, keyOf(enctype))
      if (time === undefined) return errorMessage(KRB_ERRORS.KDC_ERR_PREAUTH_FAILED, now, hint)
      if (Math.abs(time - now) > 300_000) return errorMessage(KRB_ERRORS.KRB_AP_ERR_SKEW, now)
    }
    const flags = request.options & (FORWARDABLE | RENEWABLE)
    const seconds = Math.floor(now / 1000) * 1000
    return replyMessage({
      client: request.client,
      realm: request.realm,
      server: tgs,
      ticketServer: tgs,
      nonce: request.nonce,
      flags: flags | 0x0060_0000,
      authTime: seconds,
      startTime: seconds,
      endTime: request.till,
      renewTill: (flags & RENEWABLE) === 0 ? undefined : request.renewTill,
      sessionKey: { enctype, key: keyOf(enctype, 9) },
      enctype,
      key: keyOf(enctype),
      kvno: 3,
      padata: preauth ? undefined : hint,
      partTag: 25,
      ...(typeof reply === 'function' ? reply(request) : reply),
    })
  }
}

const keysOf = (...enctypes: readonly EncryptionType[]) =>
  enctypes.map((enctype) => ({ enctype, key: new Secret(keyOf(enctype)), kvno: 3 }))

/** Starts a KDC that behaves so, asks it for a ticket at the clock's NOW, and hands back both. */
async function exchange(behaviour: Behaviour | ((request: SeenRequest) => Answer), more: Partial<TicketRequest> = {}) {
  await using fake = await startKdc(typeof behaviour === 'function' ? behaviour : honest(behaviour))
  const ticket = await requestTicket({
    client,
    keys: keysOf(18),
    salt: SALT,
    kdcs: { kdcs: [fake.kdc], udpPreferenceLimit: UDP_PREFERENCE_LIMIT },
    clock: { ...systemClock, now: () => NOW },
    random: randomBytes,
    ...more,
  })
  return { ticket, seen: [...fake.seen] }
}

async function refused(
  behaviour: Behaviour | ((request: SeenRequest) => Answer),
  code: ErrorCode,
  reason: Reason,
  more: Partial<TicketRequest> = {},
): Promise<GmsaError> {
  const error = await failure(exchange(behaviour, more), code)
  expect(error.reason).toBe(reason)
  return error
}

describe('a ticket', () => {
  test('is had by a timestamp under the own key, and holds what the KDC said', async () => {
    const { ticket, seen } = await exchange({})
    expect(seen.map(({ transport, preauth }) => [transport, ...preauth.keys()])).toEqual([['udp'], ['udp', 2]])
    const { credential, ...rest } = ticket
    expect(rest).toEqual({
      kdc: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
      enctype: 18,
      kvno: 3,
      clockSkew: 0,
      notes: [],
    })
    expect(formatPrincipal(credential.client)).toBe('web01$@AD.TEST')
    expect(formatPrincipal(credential.server)).toBe('krbtgt/AD.TEST@AD.TEST')
    expect(credential.sessionKey.enctype).toBe(18)
    expect(credential.sessionKey.key.reveal()).toEqual(Buffer.from(keyOf(18, 9)))
    expect(credential).toMatchObject({ authTime: NOW / 1000, startTime: NOW / 1000, endTime: (NOW + 10 * HOUR) / 1000 })
    expect(credential).toMatchObject({ renewTill: 0, flags: 0x0060_0000, isSkey: false })
    expect(credential.ticket[0]).toBe(0x61)
  })

  test('goes through a credential cache and back', async () => {
    const { ticket } = await exchange({})
    const file = formatCcache({ principal: client, clockSkew: ticket.clockSkew, credentials: [ticket.credential] })
    const { credentials } = parseCcache(file)
    expect(credentials[0]?.sessionKey.key.reveal()).toEqual(ticket.credential.sessionKey.key.reveal())
    expect({ ...credentials[0], sessionKey: 0 }).toEqual({
      ...ticket.credential,
      sessionKey: 0,
      server: { ...ticket.credential.server },
    })
  })

  test.each([17, 18, 19, 20, 23] as const)('is had with a key of enctype %d alone', async (enctype) => {
    const { ticket, seen } = await exchange({ enctype }, { keys: keysOf(enctype) })
    expect(ticket.enctype).toBe(enctype)
    expect(seen[0]?.enctypes).toEqual([enctype])
    expect(ticket.credential.sessionKey.enctype).toBe(enctype)
  })

  test('is asked for with all enctypes there are keys of, and had with the first that the KDC has too', async () => {
    const unknown = { enctype: 16, key: new Secret(Buffer.alloc(24)) }
    const { ticket, seen } = await exchange({ enctype: 17 }, { keys: [unknown, ...keysOf(18, 17)] })
    expect(seen.map(({ enctypes }) => enctypes)).toEqual([
      [18, 17],
      [18, 17],
    ])
    expect(ticket.enctype).toBe(17)
    const both = [{ enctype: 17 }, { enctype: 18 }]
    expect((await exchange({ enctype: 18, info: both }, { keys: keysOf(18, 17) })).ticket.enctype).toBe(18)
  })

  test('is had with the first of two keys of one enctype', async () => {
    const old = { enctype: 18, key: new Secret(keyOf(18, 1)), kvno: 2 }
    expect((await exchange({}, { keys: [...keysOf(18), old] })).ticket.notes).toEqual([])
    await refused({}, 'STORE_DENIED', 'bad-password', { keys: [old, ...keysOf(18)] })
  })

  test('is had from a KDC that says nothing of its enctypes, with the preferred key', async () => {
    const { ticket } = await exchange({ info: [] }, { keys: keysOf(18, 17) })
    expect(ticket.enctype).toBe(18)
    const silent = honest({ first: (request) => (request.preauth.size === 0 ? errorMessage(25, NOW) : undefined) })
    expect((await exchange(silent)).ticket.enctype).toBe(18)
  })

  test('is had without pre-authentication where the KDC wants none', async () => {
    const { ticket, seen } = await exchange({ preauth: false, ahead: 90_000 })
    expect(seen.length).toBe(1)
    // It is the ticket itself that says what time it is.
    expect(ticket).toMatchObject({ clockSkew: 90_000, enctype: 18, notes: [] })
  })

  test('is had with what a KDC gave to be sent back', async () => {
    const { seen } = await exchange({ cookie: 'the cookie' })
    expect(Buffer.from(seen[1]?.preauth.get(133) ?? []).toString()).toBe('the cookie')
    expect([...(seen[0]?.preauth.keys() ?? [])]).toEqual([])
  })

  test('may be encrypted under the tag of another reply, and start when it was asked for', async () => {
    const { ticket } = await exchange({ reply: { partTag: 26, startTime: undefined } })
    expect(ticket.credential).toMatchObject({ startTime: NOW / 1000 })
  })

  test('is as long, renewable and forwardable as asked for', async () => {
    const { seen } = await exchange({})
    expect(seen[1]).toMatchObject({ till: NOW + 10 * HOUR, renewTill: undefined, options: 0 })
    const more = { lifetime: HOUR, renewLifetime: 24 * HOUR, forwardable: true }
    const { ticket, seen: long } = await exchange({}, more)
    expect(long[1]).toMatchObject({ till: NOW + HOUR, renewTill: NOW + 24 * HOUR, options: FORWARDABLE | RENEWABLE })
    expect(ticket.credential).toMatchObject({ renewTill: (NOW + 24 * HOUR) / 1000, endTime: (NOW + HOUR) / 1000 })
    expect(ticket.credential.flags & (FORWARDABLE | RENEWABLE)).toBe(FORWARDABLE | RENEWABLE)
  })

  test('may be shorter, and not renewable, as the KDC likes', async () => {
    const reply = { endTime: NOW + HOUR, flags: 0, renewTill: NOW + 2 * HOUR }
    const { ticket } = await exchange({ reply }, { renewLifetime: 24 * HOUR })
    expect(ticket.credential).toMatchObject({ endTime: (NOW + HOUR) / 1000, renewTill: 0 })
  })

  test('may be asked for as long as the KDC gives', async () => {
    const { seen } = await exchange({ reply: { endTime: NOW + HOUR } }, { lifetime: Infinity, renewLifetime: Infinity })
    expect(seen[1]).toMatchObject({ till: 0xffff_ffff * 1000, renewTill: 0xffff_ffff * 1000 })
  })

  test('is asked for with a nonce of 31 bits, never the same', async () => {
    const nonces = new Set<number>()
    for (let round = 0; round < 8; round++) {
      const { seen } = await exchange({})
      for (const { nonce } of seen) nonces.add(nonce)
    }
    expect(nonces.size).toBe(16)
    for (const nonce of nonces) expect(nonce).toBeLessThan(2 ** 31)
    const { seen } = await exchange({ preauth: false }, { random: (length) => new Uint8Array(length).fill(255) })
    expect(seen[0]?.nonce).toBe(2 ** 31 - 1)
  })

  test('depends on nothing but clock and random: the same request twice, byte for byte', async () => {
    const random = (length: number) => new Uint8Array(length).fill(7)
    const [one, other] = [await exchange({}, { random }), await exchange({}, { random })]
    expect(one.seen[1]?.preauth.get(2)).toEqual(other.seen[1]?.preauth.get(2))
  })

  test('is found by whoever finds the KDCs', async () => {
    await using fake = await startKdc(honest())
    const kdcs = async (signal: AbortSignal) => {
      expect(signal.aborted).toBe(false)
      return { kdcs: [fake.kdc], udpPreferenceLimit: 1 }
    }
    await requestTicket({
      client,
      keys: keysOf(18),
      kdcs,
      clock: { ...systemClock, now: () => NOW },
      random: randomBytes,
    })
    expect(fake.seen.map(({ transport }) => transport)).toEqual(['tcp', 'tcp'])
  })
})

describe('clocks that differ', () => {
  test.each([0, 1_500, -90_000, 48 * HOUR, -48 * HOUR])(
    'by %d ms are no matter: the KDC has said what time it is',
    async (ahead) => {
      const { ticket, seen } = await exchange({ ahead })
      expect(ticket.clockSkew).toBe(ahead)
      expect(seen.length).toBe(2)
      expect(seen[1] && timestampOf(seen[1], 18, keyOf(18))).toBe(NOW + ahead)
      expect(seen[1]?.till).toBe(Math.floor((NOW + ahead + 10 * HOUR) / 1000) * 1000)
    },
  )

  test('by a demand that names another time than the KDC that judges: one more try, by its clock', async () => {
    const lying = honest({
      ahead: HOUR,
      first: (request) => (request.preauth.has(2) ? undefined : errorMessage(25, NOW, methods([{ enctype: 18 }]))),
    })
    const { ticket, seen } = await exchange(lying)
    expect(seen.length).toBe(3)
    expect(ticket.clockSkew).toBe(HOUR)
  })

  test('in the view of a KDC that contradicts itself', async () => {
    const always = (request: SeenRequest) => errorMessage(request.preauth.has(2) ? 37 : 25, NOW)
    const error = await refused(always, 'STORE_UNAVAILABLE', 'clock')
    expect(error.message).toContain('KRB_AP_ERR_SKEW (37)')
    let round = 0
    const wandering = (request: SeenRequest) => {
      round += 1
      return errorMessage(request.preauth.has(2) ? 37 : 25, NOW + round * HOUR)
    }
    await refused(wandering, 'STORE_UNAVAILABLE', 'protocol')
    expect(round).toBe(3)
  })

  test('between the demand and the ticket: the first may be forged, the second is not', async () => {
    await refused({ reply: { authTime: NOW + HOUR, startTime: NOW + HOUR } }, 'STORE_UNAVAILABLE', 'clock')
  })
})

describe('a refusal', () => {
  const cases: readonly (readonly [number, ErrorCode, Reason, RegExp])[] = [
    [1, 'STORE_DENIED', 'expired', /accountExpires/],
    [6, 'ACCOUNT_NOT_FOUND', 'not-found', /sAMAccountName/],
    [12, 'STORE_DENIED', 'not-permitted', /polic/],
    [14, 'STORE_DENIED', 'no-enctype', /msDS-SupportedEncryptionTypes/],
    [18, 'STORE_DENIED', 'disabled', /userAccountControl/],
    [23, 'STORE_DENIED', 'password-expired', /pwdLastSet/],
    [68, 'ACCOUNT_NOT_FOUND', 'wrong-realm', /domain/],
  ]
  test.each(cases)('by error %d is %s, %s, with a hint', async (code, ours, reason, hint) => {
    const error = await refused(() => errorMessage(code, NOW), ours, reason)
    expect(error.message).toMatch(/^127\.0\.0\.1:\d+: KDC_ERR_\w+ \(\d+\): web01\$@AD\.TEST /)
    expect(error.hint).toMatch(hint)
  })

  test.each([
    [60, /KRB_ERR_GENERIC/],
    [99, /error 99/],
    [16, /KDC_ERR_PADATA_TYPE_NOSUPP/],
  ] as const)('by error %d, which means nothing here, is named all the same', async (code, name) => {
    const error = await refused(() => errorMessage(code, NOW), 'STORE_UNAVAILABLE', 'protocol')
    expect(error.message).toMatch(name)
  })

  const status = (value: number) => {
    const data = Buffer.alloc(12)
    data.writeUInt32LE(value)
    const head = Buffer.from('3015a103020103a20e040c', 'hex')
    return Buffer.concat([head, data])
  }
  const statuses: readonly (readonly [string, number, Reason])[] = [
    ['STATUS_ACCOUNT_DISABLED', 0xc0000072, 'disabled'],
    ['STATUS_ACCOUNT_EXPIRED', 0xc0000193, 'expired'],
    ['STATUS_ACCOUNT_LOCKED_OUT', 0xc0000234, 'locked'],
    ['STATUS_PASSWORD_EXPIRED', 0xc0000071, 'password-expired'],
    ['STATUS_PASSWORD_MUST_CHANGE', 0xc0000224, 'must-change'],
    ['STATUS_INVALID_LOGON_HOURS', 0xc000006f, 'not-permitted'],
    ['STATUS_INVALID_WORKSTATION', 0xc0000070, 'not-permitted'],
    ['a status of no interest', 0xc0000001, 'disabled'],
  ]
  test.each(statuses)('beside which AD says %s', async (_name, value, reason) => {
    await refused(() => errorMessage(18, NOW, status(value)), 'STORE_DENIED', reason)
  })

  test('of the key names enctype and kvno, but not the key', async () => {
    const keys = [{ enctype: 18, key: new Secret(Buffer.from('kanari-kanari-kanari-kanari-kana')), kvno: 7 }]
    const error = await refused({}, 'STORE_DENIED', 'bad-password', { keys })
    expect(error.message).toMatch(
      /KDC_ERR_PREAUTH_FAILED \(24\): web01\$@AD\.TEST has another key than .*aes256-.*kvno 7$/,
    )
    expect(error.hint).toMatch(/changed since/)
    expect(printed(error)).not.toMatch(/kanari|6b616e617269/)
    await refused((request) => errorMessage(request.preauth.has(2) ? 31 : 25, NOW), 'STORE_DENIED', 'bad-password')
  })

  test('of the key by a KDC with another salt says which: the account was renamed', async () => {
    const keys = [{ enctype: 18, key: new Secret(keyOf(18, 1)) }]
    const info = [{ enctype: 18, salt: 'AD.TESThostold01.ad.test' }]
    const error = await refused({ info }, 'STORE_DENIED', 'bad-password', { keys })
    expect(error.hint).toContain('"AD.TESThostold01.ad.test"')
    const long = [{ enctype: 18, salt: 'x'.repeat(10_000) }]
    const other = await refused({ info: long }, 'STORE_DENIED', 'bad-password', { keys })
    expect(other.hint?.length).toBeLessThan(700)
  })

  test('of the key where no pre-authentication is wanted shows in the reply', async () => {
    const keys = [{ enctype: 18, key: new Secret(keyOf(18, 1)) }]
    const error = await refused({ preauth: false }, 'STORE_DENIED', 'bad-password', { keys })
    expect(error.message).toContain('the reply does not open')
  })

  test('for want of a common enctype comes from the KDC, from what it has, or from what we have', async () => {
    await refused({ info: [{ enctype: 17 }, { enctype: 23 }] }, 'STORE_DENIED', 'no-enctype')
    const keys = [{ enctype: 16, key: new Secret(Buffer.alloc(24)) }]
    await refused({}, 'STORE_DENIED', 'no-enctype', { keys })
    await refused({}, 'STORE_DENIED', 'no-enctype', { keys: [] })
  })

  test('again and again for the same', async () => {
    await refused(() => errorMessage(25, NOW), 'STORE_UNAVAILABLE', 'protocol')
  })
})

describe('a reply', () => {
  const wrong: readonly (readonly [string, Partial<Reply> | ((request: SeenRequest) => Partial<Reply>)])[] = [
    ['for another client', { client: 'web02$' }],
    ['for a client of another realm', { realm: 'OTHER.TEST' }],
    ['for another service', { server: ['krbtgt', 'OTHER.TEST'] }],
    ['with a ticket for another service', { ticketServer: ['kadmin', 'changepw'] }],
    ['to another request', ({ nonce }) => ({ nonce: nonce ^ 1 })],
    ['with an enctype nobody asked for', { enctype: 17, key: keyOf(17) }],
    ['with a session key of an enctype nobody asked for', { sessionKey: { enctype: 17, key: keyOf(17) } }],
    ['with a session key of a wrong length', { sessionKey: { enctype: 18, key: keyOf(17) } }],
    ['that lives longer than asked for', ({ till }) => ({ endTime: till + 1_000 })],
    ['that is over before it begins', { endTime: NOW - 1_000 }],
    ['that no key has encrypted', { key: keyOf(18, 99) }],
  ]
  test.each(wrong)('%s is refused', async (_what, reply) => {
    await refused({ reply }, 'STORE_UNAVAILABLE', 'protocol')
  })

  test('that is renewable for longer than asked for is refused', async () => {
    const reply = { renewTill: NOW + 25 * HOUR }
    await refused({ reply }, 'STORE_UNAVAILABLE', 'protocol', { renewLifetime: 24 * HOUR })
  })

  test('that was changed in any bit on its way is refused or means the same', async () => {
    let whole: Uint8Array | undefined
    const change: { at?: number; bit: number } = { bit: 0 }
    const answer = honest({ preauth: false })
    await using fake = await startKdc((request) => {
      const honestly = answer(request)
      if (typeof honestly === 'string' || 'wire' in honestly) return honestly
      whole = Buffer.from(honestly)
      const { at, bit } = change
      if (at !== undefined) whole[at % whole.length] = (whole[at % whole.length] ?? 0) ^ (1 << bit)
      return whole
    })
    const ask = () =>
      requestTicket({
        client,
        keys: keysOf(18),
        kdcs: { kdcs: [{ ...fake.kdc, transport: 'udp' }], udpPreferenceLimit: UDP_PREFERENCE_LIMIT },
        clock: { ...systemClock, now: () => NOW },
        random: (length) => new Uint8Array(length).fill(1),
      })
    const { credential } = await ask()
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.nat(7), async (at, bit) => {
        Object.assign(change, { at, bit })
        const got = await ask().catch((error) =>
          failure(Promise.reject(error), 'STORE_UNAVAILABLE', 'STORE_DENIED', 'ACCOUNT_NOT_FOUND'),
        )
        // Nothing seals the ticket itself on its way to the client, nor names' types; all else is under the key.
        if ('credential' in got)
          expect({ ...got.credential, ticket: 0, client: 0 }).toEqual({ ...credential, ticket: 0, client: 0 })
      }),
      { numRuns: 300 },
    )
    expect(whole).toBeDefined()
  })
})

describe('what is odd and does no harm is noted', () => {
  test('another salt', async () => {
    expect((await exchange({ info: [{ enctype: 18, salt: 'other' }] })).ticket.notes).toEqual(['other-salt'])
    expect((await exchange({ info: [{ enctype: 18, salt: 'other' }] }, { salt: '' })).ticket.notes).toEqual([
      'other-salt',
    ])
    const unasked = await exchange({ preauth: false, info: [{ enctype: 18, salt: 'other' }] })
    expect(unasked.ticket.notes).toEqual(['other-salt'])
    expect((await exchange({ info: [{ enctype: 17, salt: 'other' }, { enctype: 18 }] })).ticket.notes).toEqual([])
    const rc4 = { enctype: 23 as const, info: [{ enctype: 23, salt: 'other' }] }
    expect((await exchange(rc4, { keys: keysOf(23) })).ticket.notes).toEqual([])
  })

  test('another number of rounds', async () => {
    expect((await exchange({ info: [{ enctype: 18, rounds: 1000 }] })).ticket.notes).toEqual(['other-rounds'])
    const sha2 = { enctype: 20 as const, info: [{ enctype: 20, rounds: 32_768 }] }
    expect((await exchange(sha2, { keys: keysOf(20) })).ticket.notes).toEqual([])
  })

  test('another kvno, where both sides know theirs', async () => {
    expect((await exchange({ reply: { kvno: 4 } })).ticket).toMatchObject({ kvno: 4, notes: ['other-kvno'] })
    expect((await exchange({ reply: { kvno: undefined } })).ticket.notes).toEqual([])
    const keys = [{ enctype: 18, key: new Secret(keyOf(18)) }]
    expect((await exchange({ reply: { kvno: 4 } }, { keys })).ticket.notes).toEqual([])
  })
})

describe('time', () => {
  test('runs out after eight seconds of silence, sooner if asked, and says so', async () => {
    await using fake = await startKdc(() => 'silence')
    for (const [timeout, after] of [
      [undefined, 8_000],
      [2_500, 2_500],
    ] as const) {
      const clock = movableClock()
      const asking = requestTicket({
        client,
        keys: keysOf(18),
        kdcs: { kdcs: [fake.kdc], udpPreferenceLimit: UDP_PREFERENCE_LIMIT },
        clock,
        random: randomBytes,
        ...(timeout && { timeout }),
      })
      const outcome = failure(asking, 'STORE_TIMEOUT')
      await clock.advance(after - 1)
      const first = await Promise.race([outcome, new Promise((resolve) => setImmediate(resolve, 'waiting'))])
      expect(first).toBe('waiting')
      await clock.advance(1)
      const error = await outcome
      expect(error).toMatchObject({ reason: 'hang', message: `no KDC of AD.TEST answers within ${after} ms` })
      expect(error.hint).toContain('port 88')
      expect(clock.pending).toBe(0)
    }
  })

  test('runs out too for whoever looks for KDCs and does not find an end', async () => {
    const clock = movableClock()
    const request = { client, keys: keysOf(18), clock, random: randomBytes, kdcs: () => new Promise<never>(() => {}) }
    const outcome = failure(requestTicket(request), 'STORE_TIMEOUT')
    await clock.advance(8_000)
    await outcome
  })

  test('is up when the caller says so, by his own reason', async () => {
    await using fake = await startKdc(() => 'silence')
    const controller = new AbortController()
    const kdcs = { kdcs: [fake.kdc], udpPreferenceLimit: UDP_PREFERENCE_LIMIT }
    const asking = requestTicket({
      client,
      keys: keysOf(18),
      kdcs,
      clock: movableClock(),
      random: randomBytes,
      signal: controller.signal,
    })
    await expect.poll(() => fake.seen.length).toBe(1)
    controller.abort(new Error('enough'))
    await expect(asking).rejects.toThrow('enough')
  })
})

describe('several KDCs', () => {
  test('the one that made the demand is asked first for the ticket', async () => {
    await using silent = await startKdc(() => 'silence')
    await using good = await startKdc(honest())
    const clock = { ...movableClock(NOW), now: () => NOW }
    const asking = requestTicket({
      client,
      keys: keysOf(18),
      kdcs: { kdcs: [silent.kdc, good.kdc], udpPreferenceLimit: UDP_PREFERENCE_LIMIT },
      clock,
      random: randomBytes,
    })
    await expect.poll(() => silent.seen.length).toBe(1)
    await clock.advance(1_000)
    expect((await asking).kdc).toBe(`127.0.0.1:${good.kdc.port}`)
    expect([silent.seen.length, good.seen.length]).toEqual([1, 2])
  })
})

describe("the KDC's clock", () => {
  const read = async (behaviour: Behaviour | ((request: SeenRequest) => Answer)) => {
    await using fake = await startKdc(typeof behaviour === 'function' ? behaviour : honest(behaviour))
    const kdcs = { kdcs: [fake.kdc], udpPreferenceLimit: UDP_PREFERENCE_LIMIT }
    return await readKdcTime({ client, keys: keysOf(18), kdcs, clock: systemClock, random: randomBytes })
  }

  test('is read off its demand or its refusal, to the millisecond', async () => {
    expect((await read({ ahead: 1_234 })).time).toBe(NOW + 1_234)
    expect((await read(() => errorMessage(6, NOW))).time).toBe(NOW)
  })

  test('is not read off a ticket that is given at once', async () => {
    expect(await read({ preauth: false })).not.toHaveProperty('time')
  })
})
