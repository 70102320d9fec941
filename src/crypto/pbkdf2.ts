import { pbkdf2 as nodePbkdf2 } from 'node:crypto'
import { promisify } from 'node:util'
import { requireBytes, requireWhole } from './guards.ts'

const derive = promisify(nodePbkdf2)

/**
 * More than any KDC asks for, and about ten seconds of work. A salt and an iteration count can come from an
 * unauthenticated answer (RFC 4120 5.2.7.5), so the count needs a bound.
 */
export const MAX_ITERATIONS = 1 << 24
const MAX_LENGTH = 1024

/**
 * PBKDF2 (RFC 8018 5.2) off the event loop, in the thread pool. `password` and `salt` are copied at the call: the
 * caller may wipe them as soon as it has returned. The caller owns the result.
 * Throws TypeError or RangeError that names the argument.
 */
export function pbkdf2(
  digest: 'sha1' | 'sha256' | 'sha384',
  password: Uint8Array,
  salt: Uint8Array,
  iterations: number,
  length: number,
): Promise<Buffer> {
  requireBytes('password', password)
  requireBytes('salt', salt)
  requireWhole('iterations', iterations, 1, MAX_ITERATIONS)
  requireWhole('length', length, 1, MAX_LENGTH)
  return derive(password, salt, iterations, length, digest)
}
