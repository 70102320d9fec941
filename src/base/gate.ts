import { untilAborted } from './until-aborted.ts'

/**
 * Runs `task` when it is its turn. With `signal`: gives its place in line, or its place, back when that is aborted, also
 * where the task goes on all the same, and rejects with its reason.
 */
export type Gate = <T>(task: () => Promise<T>, signal?: AbortSignal) => Promise<T>

/** Lets so many tasks run at a time; the others wait in line. */
export function makeGate(width: number): Gate {
  const line = new Set<() => void>()
  let running = 0

  async function wait(signal: AbortSignal | undefined): Promise<void> {
    const { promise: turn, resolve } = Promise.withResolvers<void>()
    line.add(resolve)
    try {
      await (signal ? untilAborted(turn, signal) : turn)
    } catch (error) {
      // Where the turn came together with the abort, it is the next one's.
      if (!line.delete(resolve)) leave()
      throw error
    }
  }

  /** The place goes straight to the next in line, so that nobody can slip in between. */
  function leave(): void {
    const [next] = line
    if (!next) {
      running -= 1
      return
    }
    line.delete(next)
    next()
  }

  return async (task, signal) => {
    if (running >= width) await wait(signal)
    else running += 1
    try {
      return await (signal ? untilAborted(task(), signal) : task())
    } finally {
      leave()
    }
  }
}
