import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { Secret } from '../../src/base/secret.ts'
import { readKdcTime, requestTicket } from '../../src/kerberos/as-exchange.ts'
import { formatCcache, parseCcache } from '../../src/kerberos/ccache.ts'
import { formatPrincipal } from '../../src/kerberos/principal.ts'
import { failure } from '../contract/provider-contract.ts'
import { movableClock } from '../fakes/clock.ts'
import { type Answer, type Behaviour, startKdc } from '../fakes/kdc.ts'
import { errorMessage, methods, type SeenRequest, timestampOf } from '../fakes/kdc-messages.ts'
import { client, exchange, FORWARDABLE, HOUR, honest, keyOf, keysOf, NOW, RENEWABLE, refused } from './as-rig.ts'

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
    expect(credential.sessionKey.key.reveal()).toEqual(Buffer.from(keyOf(18, 18 ^ 1)))
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
        kdcs: { kdcs: [fake.kdc] },
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
    const kdcs = { kdcs: [fake.kdc] }
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
      kdcs: { kdcs: [silent.kdc, good.kdc] },
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
  const read = async (behaviour: Partial<Behaviour> | ((request: SeenRequest) => Answer)) => {
    await using fake = await startKdc(typeof behaviour === 'function' ? behaviour : honest(behaviour))
    const kdcs = { kdcs: [fake.kdc] }
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
