import { Secret } from '../../src/base/secret.ts'
import { nearestEdge } from '../../src/gmsa/cycle.ts'
import type { Reading } from '../../src/gmsa/generations.ts'

const MINUTE = 60_000
const WINDOW = 5 * MINUTE

/** A ticket for the account: under which kvno it was issued, and with the password of which interval. */
export interface Ticket {
  readonly kvno: number
  readonly interval: number
  readonly issuedAt: number
}

/** A domain controller with one gMSA, as far as passwords and numbers go. Times are its own, in ms. */
export interface DirectoryModel {
  /** The interval a moment belongs to, from 0; it stands for its password. */
  intervalAt(time: number): number
  endOf(interval: number): number
  /** Anybody's ticket for the account: it sets off a change that is due. */
  issueTicket(time: number): Ticket
  /** Whether the account can log on with the password of this interval. */
  takes(interval: number, time: number): boolean
  /** Which password this kvno stood for, or undefined where it never stood for any. */
  passwordUnder(kvno: number): number | undefined
  readonly kvno: number
  /** A read of the blob, and of the kvno after it, on a clock that is ahead by so much. */
  read(time: number, how: { ahead: number; latency: number; jitter: number }): Reading
}

/** The password of an interval: a new object each time, as two reads give two. */
const passwordOf = (interval: number) => new Secret(Buffer.from([interval + 1, 1]))

export const intervalOf = (password: Secret) => (password.reveal()[0] ?? 0) - 1

/**
 * The change is made by whoever touches the account first after it was due: one number more, or two where intervals
 * were skipped, the first of them for the password in between. The previous password is shown once the account is as
 * old as its interval. In the last five minutes the blob shows the next password, and the one in force as previous.
 */
export function makeDirectory(created: number, rollover: number): DirectoryModel {
  const edge = nearestEdge(created)
  const anchor = edge > created ? edge - 36_000_000 : edge
  const numbers = new Map([[1, 0]])
  let stored = 0
  let kvno = 1
  const intervalAt = (time: number) => Math.floor((time - anchor) / rollover)
  const startOf = (interval: number) => anchor + interval * rollover

  function touch(time: number): number {
    const interval = intervalAt(time)
    if (interval > stored + 1) numbers.set(++kvno, interval - 1)
    if (interval > stored) numbers.set(++kvno, interval)
    stored = interval
    return interval
  }

  return {
    intervalAt,
    endOf: (interval) => startOf(interval + 1),
    issueTicket(time) {
      const interval = touch(time)
      return { kvno, interval, issuedAt: time }
    },
    takes(interval, time) {
      const now = touch(time)
      return interval === now || (interval === now - 1 && time - startOf(now) < WINDOW)
    },
    passwordUnder: (number) => numbers.get(number),
    get kvno() {
      return kvno
    },
    read(time, { ahead, latency, jitter }) {
      const interval = touch(time)
      const query = startOf(interval + 1) - time
      const inWindow = query <= WINDOW
      const previous = inWindow ? interval : interval - 1
      const shown = inWindow || time - created >= rollover
      return {
        blob: {
          current: passwordOf(inWindow ? interval + 1 : interval),
          ...(shown && { previous: passwordOf(previous) }),
          queryInterval: BigInt(query) * 10_000n,
          unchangedInterval: BigInt(inWindow ? query + rollover - WINDOW : query - WINDOW) * 10_000n,
        },
        receivedAt: time + latency + ahead,
        kvno: { value: kvno, readAt: time + 2 * latency + ahead },
        rollover,
        jitter,
      }
    },
  }
}
