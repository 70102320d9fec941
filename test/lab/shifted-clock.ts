import { type Clock, systemClock } from '../../src/base/clock.ts'

/** This machine's clock, ahead by as much as it is told. */
export interface ShiftedClock extends Clock {
  /** By how many ms it is ahead. */
  readonly ahead: number
  /** Moves both clocks on; what was due meanwhile is done at once. Never back. */
  shiftTo(ahead: number): void
}

interface Timer {
  readonly at: number
  readonly task: () => void
  handle: NodeJS.Timeout
}

export function shiftedClock(ahead = 0): ShiftedClock {
  const timers = new Set<Timer>()
  const clock = {
    ahead,
    now: () => Date.now() + clock.ahead,
    monotonic: () => performance.now() + clock.ahead,
    after(ms: number, task: () => void): Disposable {
      const fire = () => {
        timers.delete(timer)
        task()
      }
      const timer: Timer = { at: clock.monotonic() + ms, task: fire, handle: setTimeout(fire, ms).unref() }
      timers.add(timer)
      return {
        [Symbol.dispose]() {
          clearTimeout(timer.handle)
          timers.delete(timer)
        },
      }
    },
    every: (ms: number, task: () => void) => systemClock.every(ms, task),
    shiftTo(to: number) {
      clock.ahead = to
      const due = [...timers].filter(({ at }) => at <= clock.monotonic())
      for (const timer of timers) {
        clearTimeout(timer.handle)
        timer.handle = setTimeout(timer.task, Math.max(0, timer.at - clock.monotonic())).unref()
      }
      for (const timer of due.toSorted((one, other) => one.at - other.at)) {
        if (!timers.has(timer)) continue
        clearTimeout(timer.handle)
        timer.task()
      }
    },
  }
  return clock
}
