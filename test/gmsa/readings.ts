import { Secret } from '../../src/base/secret.ts'
import { rolloverOf } from '../../src/gmsa/cycle.ts'
import type { Reading } from '../../src/gmsa/generations.ts'
import { type Schedule, type ScheduleInput, scheduleKeys } from '../../src/gmsa/schedule.ts'

export const MINUTE = 60_000
export const HOUR = 3_600_000
export const KEEP = 10 * HOUR + 5 * MINUTE
export const ROLLOVER = rolloverOf(2)
/** An edge of the ten-hour cycles. */
export const EDGE = Date.UTC(2026, 10, 19, 20)

/** Passwords need no form here: these are told apart by their first byte. */
export const passwords = Object.fromEntries([...'ABCDEFX'].map((name) => [name, name]))
export const secret = (name: string) => new Secret(Buffer.from(name, 'utf16le'))
export const nameOf = (password: Secret) => passwords[Buffer.from(password.reveal()).toString('utf16le')] ?? '?'

/** A reading before a change at `change`, as a domain controller gives it: current, then previous if there is one. */
export function reading(
  [current = '', previous]: readonly string[],
  change: number,
  now: number,
  kvno?: number,
  more: Partial<Reading> = {},
): Reading {
  const query = change - now
  const unchanged = query <= 5 * MINUTE ? query + ROLLOVER - 5 * MINUTE : query - 5 * MINUTE
  return {
    blob: {
      current: secret(current),
      ...(previous && { previous: secret(previous) }),
      queryInterval: BigInt(query) * 10_000n,
      unchangedInterval: BigInt(unchanged) * 10_000n,
    },
    receivedAt: now,
    ...(kvno !== undefined && { kvno: { value: kvno, readAt: now } }),
    rollover: ROLLOVER,
    jitter: 0,
    ...more,
  }
}

export const plan = (input: Reading, before?: Schedule, more: Partial<ScheduleInput> = {}) =>
  scheduleKeys({
    reading: input,
    now: input.receivedAt,
    keepPrevious: KEEP,
    ...(before && { before: before.generations }),
    ...more,
  })

/** `B2! A1`: what is held, newest first; the one in force has a mark, `?` stands for a prediction. */
export const acceptor = ({ acceptor: held }: Schedule) =>
  held
    .map(({ password, kvno, phase }) =>
      [nameOf(password), kvno?.value, kvno?.from === 'prediction' ? '?' : '', phase === 'current' ? '!' : ''].join(''),
    )
    .join(' ')
export const initiator = ({ initiator: held }: Schedule) =>
  held.map(({ password, kvno }) => `${nameOf(password)}${kvno?.value}`).join(' ')
