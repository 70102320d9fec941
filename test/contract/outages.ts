import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import type { ErrorCode, GmsaError, Reason } from '../../src/base/errors.ts'
import type { Log } from '../../src/base/log.ts'
import { withDeadline } from '../../src/broker/deadline.ts'
import type { Provider } from '../../src/providers/provider.ts'
import { printed } from './printed.ts'
import { failure, type ProviderFixture } from './provider-contract.ts'

/**
 * How a store behind HTTP fails. `token-expired`: what we showed so far is no longer taken, and another can be had;
 * `token-revoked`: it was withdrawn before its time.
 */
export type Outage =
  | 'forbidden'
  | 'token-expired'
  | 'token-revoked'
  | 'throttled'
  | 'server-error'
  | 'refused'
  | 'hang'
  | 'truncated'
  | 'not-json'
  | 'oversized'
  | 'wrong-name'
  | 'unknown-ca'

export interface OutageFixture extends ProviderFixture {
  /** The store fails in this way until `restore`. `throttled` asks to come back in {@link RETRY_AFTER} seconds. */
  fail(how: Outage): Promise<void>
  /** The store gets a certificate of a new CA, and where the provider has it from is changed as well. */
  rotateCa?(): Promise<void>
}

export interface OutageOptions {
  readonly options?: Readonly<Record<string, unknown>>
  /** Outages that this store can't have, and why: they are left out. */
  readonly without?: Partial<Readonly<Record<Outage | 'rotated-ca', string>>>
  /** Outages that the provider gets over within the same read. */
  readonly survives?: readonly Outage[]
  /** Where this store gives another code or reason than usual. */
  readonly instead?: Partial<Readonly<Record<Outage, Expected>>>
}

interface Expected {
  readonly code: ErrorCode
  readonly reason?: Reason
}

export const RETRY_AFTER = 7
const CANARY = /pa55|kanari|cGE1NS/i
const GOOD = { username: 'svc-ccg', password: 'pa55-Kanari', domainName: 'ad.test' }
/** How long one read may take, in ms; the broker's deadline ends it. A hang lasts until then, all else is quicker. */
const DEADLINE = 3_000

const EXPECTED: Readonly<Record<Outage, Expected>> = {
  forbidden: { code: 'STORE_DENIED', reason: 'not-permitted' },
  'token-expired': { code: 'STORE_DENIED' },
  'token-revoked': { code: 'STORE_DENIED' },
  throttled: { code: 'STORE_UNAVAILABLE' },
  'server-error': { code: 'STORE_UNAVAILABLE' },
  refused: { code: 'STORE_UNAVAILABLE', reason: 'refused' },
  hang: { code: 'STORE_TIMEOUT' },
  truncated: { code: 'STORE_UNAVAILABLE' },
  'not-json': { code: 'STORE_UNAVAILABLE', reason: 'protocol' },
  oversized: { code: 'STORE_UNAVAILABLE', reason: 'protocol' },
  'wrong-name': { code: 'STORE_UNAVAILABLE', reason: 'name-mismatch' },
  'unknown-ca': { code: 'STORE_UNAVAILABLE', reason: 'unknown-ca' },
}

/** What every provider that speaks HTTP owes the broker when its store fails. Beside the provider contract. */
export function storeOutages(
  name: string,
  makeFixture: () => Promise<OutageFixture>,
  { options = {}, without = {}, survives = [], instead = {} }: OutageOptions = {},
): void {
  describe(`${name}, when its store fails:`, () => {
    let fixture: OutageFixture
    let provider: Provider
    let lines: unknown[]

    beforeEach(async () => {
      fixture = await makeFixture()
      lines = []
      provider = await fixture.open({ log: logTo(lines), clock: systemClock })
      await fixture.put('one', GOOD)
    })
    afterEach(async () => {
      await provider[Symbol.asyncDispose]()
      await fixture[Symbol.asyncDispose]()
      expect(printed(lines)).not.toMatch(CANARY)
    })

    const read = async (secret = 'one') => {
      if (!provider.reads.credential) throw new Error('offers no credential')
      const { credential } = provider.reads
      const account = { name: `name-of-${secret}`, secret, options }
      const { password } = await withDeadline((signal) => credential(account, signal), DEADLINE, systemClock)
      return password.revealText()
    }
    const broken = async (how: Outage) => {
      const started = performance.now()
      const { code, reason } = instead[how] ?? EXPECTED[how]
      const error: GmsaError = await failure(read(), code)
      if (reason !== undefined) expect(error.reason).toBe(reason)
      expect(performance.now() - started).toBeLessThan(DEADLINE + 1_500)
      expect(printed(error)).not.toMatch(CANARY)
      return error
    }

    for (const how of Object.keys(EXPECTED) as Outage[]) {
      if (without[how] !== undefined) continue
      if (survives.includes(how)) {
        test(`${how}: the same read gets over it`, async () => {
          await read()
          await fixture.fail(how)
          expect(await read()).toBe('pa55-Kanari')
          await fixture.restore()
        })
        continue
      }
      test(`${how}: says so in bounded time, shows nothing, and comes back without restart`, async () => {
        expect(await read()).toBe('pa55-Kanari')
        await fixture.fail(how)
        const error = await broken(how)
        if (how === 'throttled') expect(error.retryAfter).toBe(RETRY_AFTER)
        // Once more: the first failure may have met a connection of before.
        await broken(how)
        await fixture.restore()
        expect(await read()).toBe('pa55-Kanari')
      })
    }

    test('an absent record is absent, not an outage, and denies nothing else', async () => {
      await failure(read('two'), 'ACCOUNT_NOT_FOUND')
      expect(await read()).toBe('pa55-Kanari')
    })

    test('a rotated secret is what the next read gives', async () => {
      expect(await read()).toBe('pa55-Kanari')
      await fixture.put('one', { ...GOOD, password: 'next' })
      expect(await read()).toBe('next')
    })

    if (without['rotated-ca'] !== undefined) return
    test('a rotated CA is taken without restart', async () => {
      if (!fixture.rotateCa) expect.unreachable('the fixture lacks rotateCa')
      expect(await read()).toBe('pa55-Kanari')
      await fixture.rotateCa()
      expect(await read()).toBe('pa55-Kanari')
    })
  })
}

function logTo(lines: unknown[]): Log {
  const keep = (fields: object, message: string) => void lines.push({ ...fields, message })
  return { trace: keep, debug: keep, info: keep, warn: keep, error: keep }
}
