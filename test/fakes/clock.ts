import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../../src/base/clock.ts'

/** A clock that stands still until a test moves it. */
export interface MovableClock extends Clock {
  /** Lets this much time pass on both clocks. Timers fire in the order they are due, each with its promises settled. */
  advance(ms: number): Promise<void>
  /** Steps the wall clock alone, forward or back, as an administrator or NTP would. */
  stepWall(ms: number): void
  /** How many timers wait: none after everything was disposed. */
  readonly pending: number
}

interface Timer {
  at: number
  readonly every: number | undefined
  readonly task: () => void
}

/** A clock at 1 January 2026, whose monotonic time starts at 0. */
export function movableClock(start = Date.UTC(2026, 0, 1)): MovableClock {
  const timers = new Set<Timer>()
  let monotonic = 0
  let wallAhead = start

  function add(ms: number, task: () => void, every?: number): Disposable {
    const timer = { at: monotonic + ms, task, every }
    timers.add(timer)
    return { [Symbol.dispose]: () => void timers.delete(timer) }
  }

  /** The timer due first; among equals the one set first, as a Set keeps the order of insertion. */
  function nextDue(until: number): Timer | undefined {
    let next: Timer | undefined
    for (const timer of timers) if (timer.at <= until && (!next || timer.at < next.at)) next = timer
    return next
  }

  function fire(timer: Timer): void {
    monotonic = Math.max(monotonic, timer.at)
    timers.delete(timer)
    if (timer.every !== undefined) {
      timer.at += timer.every
      timers.add(timer)
    }
    timer.task()
  }

  return {
    now: () => Math.floor(wallAhead + monotonic),
    monotonic: () => monotonic,
    after: (ms, task) => add(ms, task),
    every: (ms, task) => add(ms, task, ms),
    async advance(ms) {
      const until = monotonic + ms
      await setImmediate()
      for (let timer = nextDue(until); timer; timer = nextDue(until)) {
        fire(timer)
        await setImmediate()
      }
      monotonic = until
    },
    stepWall(ms) {
      wallAhead += ms
    },
    get pending() {
      return timers.size
    },
  }
}
