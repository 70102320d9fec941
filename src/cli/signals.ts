import { constants } from 'node:os'
import type { ProcessLog } from './logger.ts'

/** A terminal and npm deliver one Ctrl-C several times: repeats within this many ms are the same signal. */
const SAME_SIGNAL = 1_000

/** The first SIGTERM or SIGINT asks for a graceful end; another one, not just its echo, ends the process at once. */
export function endingBySignal(output: ProcessLog): Disposable & { readonly signalled: Promise<void> } {
  const { promise: signalled, resolve } = Promise.withResolvers<void>()
  let first: number | undefined
  const onSignal = (signal: 'SIGTERM' | 'SIGINT') => {
    const now = performance.now()
    if (first === undefined) {
      first = now
      resolve()
    } else if (now - first > SAME_SIGNAL) {
      output.log.warn({ signal }, 'second signal: ending at once')
      output.flush()
      process.exit(128 + constants.signals[signal])
    }
  }
  // Nothing else keeps the process alive while it waits for its first connection.
  const alive = setInterval(() => {}, 0x7fffffff)
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  return {
    signalled,
    [Symbol.dispose]() {
      clearInterval(alive)
      process.off('SIGTERM', onSignal)
      process.off('SIGINT', onSignal)
    },
  }
}
