import { describe, expect, test } from 'vitest'
import { GmsaError } from '../../../src/base/errors.ts'
import {
  backoff,
  budget,
  type FailoverOptions,
  failover,
  orderServers,
  type ServerState,
} from '../../../src/providers/active-directory/failover.ts'
import { failure, rejection } from '../../contract/provider-contract.ts'
import { movableClock } from '../../fakes/clock.ts'

const never = new AbortController().signal
const out = (server: string) => new GmsaError('STORE_UNAVAILABLE', `${server}: gone`, { reason: 'refused' })
const silence = () => new Promise<string>(() => {})

describe('the back-off of a server', () => {
  test('starts at a second, doubles to thirty and never exceeds that', () => {
    const exact = Array.from({ length: 8 }, (_, index) => backoff(index + 1, () => 0))
    expect(exact).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000])
    expect(backoff(5_000, () => 0)).toBe(30_000)
  })

  test('is shortened by chance, by a fifth at most', () => {
    expect(backoff(1, () => 0.5)).toBe(900)
    expect(backoff(10, () => 0.999)).toBeGreaterThanOrEqual(24_000)
  })
})

describe('the order in which servers are asked', () => {
  const failed = (retryAt: number): ServerState => ({ failures: 1, failedAt: 0, retryAt })

  test('as listed, but the one that answered last first', () => {
    expect(orderServers(['a', 'b', 'c'], new Map(), undefined, 0)).toEqual(['a', 'b', 'c'])
    expect(orderServers(['a', 'b', 'c'], new Map(), 'c', 0)).toEqual(['c', 'a', 'b'])
    expect(orderServers(['a', 'b'], new Map(), 'no longer there', 0)).toEqual(['a', 'b'])
  })

  test('those that failed last, the next one due first, and none left out', () => {
    const states = new Map([
      ['a', failed(900)],
      ['b', failed(500)],
    ])
    expect(orderServers(['a', 'b', 'c'], states, 'a', 100)).toEqual(['c', 'b', 'a'])
    expect(orderServers(['a', 'b', 'c'], states, 'c', 600)).toEqual(['c', 'b', 'a'])
    expect(orderServers(['a', 'b', 'c'], states, undefined, 1_000)).toEqual(['a', 'b', 'c'])
  })

  test('share the time, three of them at most', () => {
    expect(budget(6_000, 1)).toBe(6_000)
    expect(budget(6_000, 2)).toBe(3_000)
    expect(budget(6_000, 20)).toBe(2_000)
  })
})

describe('a round of servers', () => {
  function make(servers: readonly string[] = ['a', 'b'], more: Partial<FailoverOptions> = {}) {
    const clock = movableClock()
    const failures: string[] = []
    const outcomes: string[] = []
    const rounds = failover({
      clock,
      random: () => 0,
      timeout: 3_000,
      servers: async () => servers,
      isOurs: () => false,
      onFailure: (server, { reason }, count) => void failures.push(`${server} ${reason} ${count}`),
      onRecovery: (server) => void failures.push(`${server} back`),
      ...more,
    })
    const run = (attempt: (server: string) => Promise<string>, signal = never) =>
      rounds.run(attempt, { signal, onOutcome: (server, outcome) => void outcomes.push(`${server} ${outcome}`) })
    return { clock, failures, outcomes, run }
  }

  test('the first answer is taken, and nobody else is asked', async () => {
    const { run, outcomes } = make()
    expect(await run(async (server) => server)).toBe('a')
    expect(outcomes).toEqual(['a ok'])
  })

  test('one that fails is passed over, and left alone until its back-off ends', async () => {
    const { run, outcomes, failures, clock } = make()
    const attempt = async (server: string) => (server === 'a' ? Promise.reject(out('a')) : server)
    expect(await run(attempt)).toBe('b')
    expect(await run(attempt)).toBe('b')
    await clock.advance(60_000)
    expect(await run(attempt)).toBe('b')
    expect(outcomes).toEqual(['a failed', 'b ok', 'b ok', 'b ok'])
    expect(failures).toEqual(['a refused 1'])
  })

  test('one that is silent gets its share of the time and no more', async () => {
    const { run, failures, clock } = make()
    const answer = run((server) => (server === 'a' ? silence() : Promise.resolve(server)))
    await clock.advance(1_499)
    expect(failures).toEqual([])
    await clock.advance(1)
    expect(await answer).toBe('b')
    expect(failures).toEqual(['a hang 1'])
    expect(clock.pending).toBe(0)
  })

  test('when all are silent the error comes within the time and names each', async () => {
    const { run, clock } = make(['a', 'b', 'c', 'd'])
    const error = failure(run(silence), 'STORE_UNAVAILABLE')
    await clock.advance(3_000)
    const { message, reason } = await error
    expect(reason).toBe('hang')
    for (const server of ['a: ', 'b: ', 'c: ']) expect(message).toContain(server)
  })

  test('many that refuse at once are all asked', async () => {
    const { run, outcomes } = make(['a', 'b', 'c', 'd', 'e', 'f'])
    expect(await run(async (server) => (server === 'f' ? server : Promise.reject(out(server))))).toBe('f')
    expect(outcomes).toHaveLength(6)
  })

  test.each(['STORE_DENIED', 'ACCOUNT_NOT_FOUND', 'MATERIAL_MALFORMED'] as const)('%s is an answer', async (code) => {
    const { run, outcomes, failures } = make()
    await failure(
      run(() => Promise.reject(new GmsaError(code, 'no'))),
      code,
    )
    expect(outcomes).toEqual([code === 'STORE_DENIED' ? 'a refused' : 'a ok'])
    expect(failures).toEqual([])
  })

  test('an outage of our own ends the round and blames no server', async () => {
    const ours = new GmsaError('STORE_UNAVAILABLE', 'bind: the store is out')
    const { run, outcomes, failures } = make(['a', 'b'], { isOurs: (error) => error === ours })
    expect(await rejection(run(() => Promise.reject(ours)))).toBe(ours)
    expect([...outcomes, ...failures]).toEqual([])
  })

  test('reads that were under way together meet one failure', async () => {
    const { run, failures, clock } = make()
    const answers = Array.from({ length: 10 }, () =>
      run((server) => (server === 'a' ? silence() : Promise.resolve('b'))),
    )
    await clock.advance(1_500)
    expect(new Set(await Promise.all(answers))).toEqual(new Set(['b']))
    expect(failures).toEqual(['a hang 1'])
  })

  test('one that answers again is announced and forgiven', async () => {
    const { run, failures, clock } = make(['a'])
    await failure(
      run(() => Promise.reject(out('a'))),
      'STORE_UNAVAILABLE',
    )
    await clock.advance(1)
    await failure(
      run(() => Promise.reject(out('a'))),
      'STORE_UNAVAILABLE',
    )
    expect(await run(async (server) => server)).toBe('a')
    expect(failures).toEqual(['a refused 1', 'a refused 2', 'a back'])
  })

  test('nobody is asked when the signal has ended already', async () => {
    const { run, outcomes } = make()
    const reason = new Error('gave up')
    expect(await rejection(run(async () => 'x', AbortSignal.abort(reason)))).toBe(reason)
    expect(outcomes).toEqual([])
  })

  test('a signal that ends is obeyed at once, and blames nobody', async () => {
    const { run, failures, clock } = make()
    const controller = new AbortController()
    const ended = rejection(run(silence, controller.signal))
    await clock.advance(2_000 / 2)
    const reason = new Error('gave up')
    controller.abort(reason)
    expect(await ended).toBe(reason)
    expect(failures).toEqual([])
    expect(clock.pending).toBe(0)
  })

  test('a deadline of the caller that passes while a server is silent counts against that server', async () => {
    const { run, failures, clock, outcomes } = make()
    const controller = new AbortController()
    const ended = rejection(run(silence, controller.signal))
    await clock.advance(1_000)
    const deadline = new GmsaError('STORE_TIMEOUT', 'no answer')
    controller.abort(deadline)
    expect(await ended).toBe(deadline)
    expect(failures).toEqual(['a hang 1'])
    expect(await run(async (server) => server)).toBe('b')
    expect(outcomes).toEqual(['a failed', 'b ok'])
  })

  test('a DNS that does not answer ends the round in time', async () => {
    const { run, clock } = make([], { servers: () => new Promise(() => {}) })
    const error = failure(
      run(async () => 'x'),
      'STORE_UNAVAILABLE',
    )
    await clock.advance(3_000)
    expect((await error).reason).toBe('hang')
  })
})
