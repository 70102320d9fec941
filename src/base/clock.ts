/** The wall clock and the timers, as one thing that a test can replace. */
export interface Clock {
  /** Milliseconds since 1970, as Date.now(). Steps with the system's clock. */
  now(): number
  /** Milliseconds that only grow, as performance.now(). Ages and deadlines are counted in these. */
  monotonic(): number
  /** Runs `task` once after `ms` unless disposed. Never keeps the process alive. */
  after(ms: number, task: () => void): Disposable
  /** Runs `task` every `ms` until disposed. Never keeps the process alive. */
  every(ms: number, task: () => void): Disposable
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, task) {
    const timer = setTimeout(task, ms).unref()
    return { [Symbol.dispose]: () => clearTimeout(timer) }
  },
  every(ms, task) {
    const timer = setInterval(task, ms).unref()
    return { [Symbol.dispose]: () => clearInterval(timer) }
  },
}
