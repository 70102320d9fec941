import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino'
import type { Clock } from '../base/clock.ts'
import type { LogLevel } from './config.ts'

/** What waits for a reader of stdout that is too slow; what comes on top is dropped rather than kept in memory. */
const MAX_WAITING_BYTES = 16 * 1024 * 1024
/** Lines are written together, in blocks of this many bytes or after this many ms: a write costs more than its line. */
const BLOCK_BYTES = 8 * 1024
const LONGEST_WAIT = 50

export interface ProcessLog {
  readonly log: Logger
  /** Writes what still waits. To be called before the process ends. */
  flush(): void
}

const STDOUT = 1

/**
 * JSON lines on stdout, or another descriptor, written without blocking. Secrets are never put into a log object; the
 * redaction here is a second line of defence.
 */
export function openProcessLog(level: LogLevel, clock: Clock, descriptor = STDOUT): ProcessLog {
  const stream = destination({
    dest: descriptor,
    sync: false,
    minLength: BLOCK_BYTES,
    maxLength: MAX_WAITING_BYTES,
  })
  const log = pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      // Wildcards would cost as much as the rest of the line; log objects are flat.
      redact: ['password', 'key', 'token'],
    },
    flushedInTime(stream, clock),
  )
  return { log, flush: () => unlessEnded(() => stream.flushSync()) }
}

function unlessEnded(flush: () => void): void {
  try {
    flush()
  } catch {
    // Nobody reads any more.
  }
}

/**
 * The stream, flushed while lines wait in it. Its own flush timer never rests: it was nearly all the processor time of
 * a process that had nothing to do.
 */
function flushedInTime(stream: ReturnType<typeof destination>, clock: Clock): DestinationStream {
  let armed = false
  let came = false
  const arm = () => {
    if (armed) return
    armed = true
    clock.after(LONGEST_WAIT, () => {
      armed = false
      unlessEnded(() => stream.flush())
    })
  }
  // While a block is on its way to a slow reader a flush does nothing: what came meanwhile may wait still.
  stream.on('drain', () => {
    if (came) arm()
    came = false
  })
  return {
    write(line) {
      came = true
      stream.write(line)
      arm()
    },
  }
}
