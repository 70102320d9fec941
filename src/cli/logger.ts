import { destination, type Logger, pino, stdTimeFunctions } from 'pino'
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

/**
 * JSON lines on stdout, written without blocking. Secrets are never put into a log object; the redaction here is a
 * second line of defence.
 */
export function openProcessLog(level: LogLevel): ProcessLog {
  const stream = destination({
    dest: 1,
    sync: false,
    minLength: BLOCK_BYTES,
    periodicFlush: LONGEST_WAIT,
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
    stream,
  )
  return {
    log,
    flush() {
      try {
        stream.flushSync()
      } catch {
        // Nobody reads any more.
      }
    },
  }
}
