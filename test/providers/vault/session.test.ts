import { setImmediate } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { GmsaError } from '../../../src/base/errors.ts'
import { Secret } from '../../../src/base/secret.ts'
import { type Lease, Session, type TokenSource } from '../../../src/providers/vault/session.ts'
import { failure, rejection } from '../../contract/provider-contract.ts'
import { type MovableClock, movableClock } from '../../fakes/clock.ts'

const SECOND = 1_000
const HOUR = 3_600 * SECOND
const OUTAGE = new GmsaError('STORE_UNAVAILABLE', 'out')
const REFUSAL = new GmsaError('STORE_DENIED', 'no')

/** A source of tokens `t1`, `t2`…, and what was done to it, in order. */
class FakeSource implements TokenSource {
  readonly done: string[] = []
  readonly at: number[] = []
  lease: Lease = { seconds: 3600, renewable: true }
  renewal: Lease = this.lease
  ours = true
  alive = true
  current = true
  /** In place of the next answers. */
  obtaining: (signal: AbortSignal) => Promise<void> = async () => {}
  renewing: () => Promise<void> = async () => {}
  #made = 0
  readonly #clock: MovableClock

  constructor(clock: MovableClock) {
    this.#clock = clock
  }

  #note(what: string, token?: Secret): void {
    this.done.push(token ? `${what} ${token.revealText()}` : what)
    this.at.push(this.#clock.monotonic() / SECOND)
  }

  async obtain(signal: AbortSignal) {
    this.#note('obtain')
    await this.obtaining(signal)
    this.#made += 1
    return { token: Secret.fromText(`t${this.#made}`), ours: this.ours, ...this.lease }
  }

  async isCurrent() {
    return this.current
  }

  async isAlive(token: Secret) {
    this.#note('look up', token)
    return this.alive
  }

  async renew(token: Secret) {
    this.#note('renew', token)
    await this.renewing()
    return this.renewal
  }

  async revoke(token: Secret) {
    this.#note('revoke', token)
  }
}

function openRig({ random = 0, lease }: { random?: number; lease?: Lease } = {}) {
  const clock = movableClock()
  const source = new FakeSource(clock)
  if (lease) source.lease = source.renewal = lease
  const failures: string[] = []
  const onFailure = ({ code }: GmsaError, count: number) => void failures.push(`${code} ${count}`)
  const session = new Session(source, { clock, random: () => random, onFailure })
  const never = new AbortController().signal
  return {
    clock,
    source,
    session,
    failures,
    token: async (signal = never) => (await session.token(signal)).revealText(),
    /** What is tried in place of the present token, after a refusal. */
    async replace(isKnown = false) {
      const token = await session.token(never)
      return (await session.replace(token, isKnown, never))?.revealText()
    },
  }
}

describe('a token', () => {
  test('is obtained when first needed, once for all who ask, and kept', async () => {
    const { source, token } = openRig()
    expect(source.done).toEqual([])
    expect(await Promise.all([token(), token(), token()])).toEqual(['t1', 't1', 't1'])
    expect(await token()).toBe('t1')
    expect(source.done).toEqual(['obtain'])
  })

  test.each([
    [0, 2400],
    [1, 2040],
  ])(
    'is renewed at two thirds of its life, or up to a tenth sooner (%d: after %d s), while nobody asks',
    async (random, after) => {
      const { clock, source, token } = openRig({ random })
      await token()
      await clock.advance(after * SECOND - 1)
      expect(source.done).toEqual(['obtain'])
      await clock.advance(1)
      expect(source.done).toEqual(['obtain', 'renew t1'])
      await clock.advance(10 * HOUR)
      expect(source.done.filter((each) => each === 'obtain')).toHaveLength(1)
      expect(source.done.filter((each) => each === 'renew t1')).toHaveLength(1 + Math.floor((10 * 3600) / after))
      expect(await token()).toBe('t1')
    },
  )

  test('is replaced by a log-in where its renewals come to the greatest age, and given back', async () => {
    const { clock, source, token } = openRig()
    await token()
    source.renewal = { seconds: 1700, renewable: true }
    await clock.advance(2400 * SECOND)
    source.lease = { seconds: 7200, renewable: true }
    await clock.advance(1134 * SECOND)
    expect(source.done).toEqual(['obtain', 'renew t1', 'obtain', 'revoke t1'])
    expect(await token()).toBe('t2')
  })

  test.each<[string, Lease]>([
    ['that can not be renewed', { seconds: 600, renewable: false }],
    ['whose renewal is refused', { seconds: 600, renewable: true }],
  ])('%s is replaced by a log-in at two thirds of its life', async (_what, lease) => {
    const { clock, source, token, failures } = openRig({ lease })
    source.renewing = () => Promise.reject(REFUSAL)
    await token()
    await clock.advance(400 * SECOND)
    expect(source.done.filter((each) => !each.startsWith('renew'))).toEqual(['obtain', 'obtain', 'revoke t1'])
    expect(await token()).toBe('t2')
    expect(failures).toEqual([])
  })

  test('that never ends is neither renewed nor replaced', async () => {
    const { clock, source, token } = openRig({ lease: { seconds: 0, renewable: false } })
    await token()
    expect(clock.pending).toBe(0)
    await clock.advance(100 * 24 * HOUR)
    expect(await token()).toBe('t1')
    expect(source.done).toEqual(['obtain'])
  })

  test('that lasts for years is renewed before a timer of ours would overflow', async () => {
    const { clock, source, token } = openRig({ lease: { seconds: 10 * 365 * 86_400, renewable: true } })
    await token()
    await clock.advance(2 ** 31 - 1)
    expect(source.done).toContain('renew t1')
  })

  test('that ended is not used: the next one is obtained first', async () => {
    const { clock, source, token } = openRig({ lease: { seconds: 600, renewable: true } })
    await token()
    source.renewing = () => Promise.reject(OUTAGE)
    source.obtaining = () => Promise.reject(OUTAGE)
    await clock.advance(600 * SECOND)
    expect(await rejection(token())).toBe(OUTAGE)
    source.obtaining = async () => {}
    expect(await token()).toBe('t2')
  })

  test('that is not the configured one any more is not used either', async () => {
    const { source, token } = openRig()
    await token()
    source.current = false
    expect(await token()).toBe('t2')
  })

  test('does not mind the wall clock', async () => {
    const { clock, source, token } = openRig()
    await token()
    clock.stepWall(10 * HOUR)
    expect(await token()).toBe('t1')
    clock.stepWall(-100 * HOUR)
    await clock.advance(2400 * SECOND)
    expect(source.done).toEqual(['obtain', 'renew t1'])
  })
})

test('a renewal that gets no answer is tried again ever sooner while the token lasts, and reported', async () => {
  const { clock, source, token, failures } = openRig({ lease: { seconds: 900, renewable: true } })
  await token()
  source.renewing = () => Promise.reject(OUTAGE)
  await clock.advance(902 * SECOND)
  const renewals = source.done.flatMap((each, index) =>
    each === 'renew t1' ? [Math.round(source.at[index] ?? 0)] : [],
  )
  expect(renewals.slice(0, 4)).toEqual([600, 700, 767, 811])
  expect(renewals.length).toBeLessThan(20)
  expect(failures.slice(0, 2)).toEqual(['STORE_UNAVAILABLE 1', 'STORE_UNAVAILABLE 2'])
  expect(source.done.filter((each) => each === 'obtain')).toHaveLength(1)
  expect(clock.pending).toBe(0)
})

test('after an outage the renewal takes up its rhythm again', async () => {
  const { clock, source, token, failures } = openRig({ lease: { seconds: 900, renewable: true } })
  await token()
  source.renewing = () => Promise.reject(OUTAGE)
  await clock.advance(650 * SECOND)
  source.renewing = async () => {}
  await clock.advance(2 * HOUR)
  expect(failures).toEqual(['STORE_UNAVAILABLE 1'])
  expect(source.done.filter((each) => each === 'obtain')).toHaveLength(1)
  expect(await token()).toBe('t1')
})

describe('a refusal', () => {
  test('of a token that the server does not know any more gives a new one, once for all who were refused', async () => {
    const { source, session, token, clock } = openRig()
    await token()
    await clock.advance(60 * SECOND)
    source.alive = false
    const never = new AbortController().signal
    const refused = await session.token(never)
    const next = await Promise.all(Array.from({ length: 50 }, () => session.replace(refused, false, never)))
    expect(new Set(next.map((each) => each?.revealText()))).toEqual(new Set(['t2']))
    expect(source.done).toEqual(['obtain', 'look up t1', 'obtain'])
    // Who was slow to be refused is told of the one that is there by now.
    expect((await session.replace(refused, false, never))?.revealText()).toBe('t2')
    expect(source.done).toHaveLength(3)
  })

  test('of a token that is known stands, and costs no log-in', async () => {
    const { source, replace } = openRig()
    expect(await replace(false)).toBeUndefined()
    expect(await replace(true)).toBeUndefined()
    expect(source.done).toEqual(['obtain', 'look up t1'])
  })

  test('of a token whose rights are old counts only when a new one is refused as well; at most every ten minutes', async () => {
    const { clock, source, replace } = openRig({ lease: { seconds: 30 * 86_400, renewable: true } })
    await replace(true)
    await clock.advance(10 * 60 * SECOND)
    expect(await replace(true)).toBe('t2')
    expect(source.done).toEqual(['obtain', 'obtain', 'revoke t1'])
    for (let minute = 0; minute < 60; minute += 1) {
      await replace(true)
      await clock.advance(60 * SECOND)
    }
    expect(source.done.filter((each) => each === 'obtain')).toHaveLength(2 + 5)
  })

  test('stands where that further log-in fails', async () => {
    const { clock, source, replace, token } = openRig({ lease: { seconds: 30 * 86_400, renewable: true } })
    await replace(true)
    await clock.advance(10 * 60 * SECOND)
    source.obtaining = () => Promise.reject(REFUSAL)
    expect(await replace(true)).toBeUndefined()
    expect(await token()).toBe('t1')
  })

  test('over and over of tokens just obtained: log-ins come ever more slowly, one a minute at last', async () => {
    const { clock, source, replace } = openRig()
    source.alive = false
    for (let second = 0; second < 600; second += 1) {
      await replace(false).catch((error: unknown) => expect(error).toMatchObject({ code: 'STORE_DENIED' }))
      await clock.advance(SECOND)
    }
    const logIns = source.done.filter((each) => each === 'obtain').length
    expect(logIns).toBeGreaterThan(10)
    expect(logIns).toBeLessThan(20)
    source.alive = true
    await clock.advance(60 * SECOND)
    expect(await replace(true)).toBeUndefined()
  })
})

test('a token that dies of age makes up for one that died early: the next early death is the first again', async () => {
  const { clock, source, replace, token } = openRig()
  source.alive = false
  expect(await replace()).toBe('t2')
  await clock.advance(61 * SECOND)
  expect(await replace()).toBe('t3')
  // As after the first one: at once.
  expect(await replace()).toBe('t4')
  expect(await token()).toBe('t4')
  await failure(replace(), 'STORE_DENIED')
})

describe('a log-in', () => {
  test('goes on for the others when the one who began it gives up', async () => {
    const { source, token } = openRig()
    const { promise: answered, resolve } = Promise.withResolvers<void>()
    source.obtaining = () => answered
    const controller = new AbortController()
    const first = rejection(token(controller.signal))
    const second = token()
    const reason = new Error('gave up')
    controller.abort(reason)
    expect(await first).toBe(reason)
    resolve()
    expect(await second).toBe('t1')
    expect(source.done).toEqual(['obtain'])
  })

  test('does not begin for one who gave up before', async () => {
    const { source, token } = openRig()
    const reason = new Error('gave up')
    expect(await rejection(token(AbortSignal.abort(reason)))).toBe(reason)
    expect(source.done).toEqual([])
  })

  test('that gets no answer ends after ten seconds, and the next one may begin', async () => {
    const { clock, source, token } = openRig()
    source.obtaining = (signal) => untilAborted(signal)
    const waiting = failure(token(), 'STORE_UNAVAILABLE')
    await clock.advance(10 * SECOND)
    expect((await waiting).reason).toBe('hang')
    source.obtaining = async () => {}
    expect(await token()).toBe('t1')
  })
})

describe('closing', () => {
  test('gives a token of ours back and leaves no timer', async () => {
    const { clock, source, session, token } = openRig()
    await token()
    await session.close()
    expect(source.done).toEqual(['obtain', 'revoke t1'])
    expect(clock.pending).toBe(0)
    await failure(token(), 'STORE_UNAVAILABLE')
  })

  test("leaves somebody else's token alone", async () => {
    const { source, session, token } = openRig()
    source.ours = false
    await token()
    await session.close()
    expect(source.done).toEqual(['obtain'])
  })

  test('ends a log-in that is under way', async () => {
    const { source, session, token } = openRig()
    source.obtaining = (signal) => untilAborted(signal)
    const waiting = failure(token(), 'STORE_UNAVAILABLE')
    await setImmediate()
    await session.close()
    await waiting
  })
})

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
}
