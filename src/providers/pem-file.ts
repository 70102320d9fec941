import { readFile } from 'node:fs/promises'
import { GmsaError, type GmsaErrorOptions } from '../base/errors.ts'

/**
 * The text of a PEM file without secrets: a CA, a certificate. Read anew each time, for it may change. Rejects with
 * STORE_UNAVAILABLE, and what `about` says, where it can't be read.
 */
export async function readPem(path: string, about: Pick<GmsaErrorOptions, 'reason' | 'hint'> = {}): Promise<string> {
  return readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    const { code = 'cannot be read' } = cause
    const problem = code === 'ENOENT' ? 'no such file' : code
    throw new GmsaError('STORE_UNAVAILABLE', `${path}: ${problem}`, { cause, ...about })
  })
}

/** That of the file which an option `ca` names. */
export async function readCa(path: string): Promise<string> {
  return readPem(path, { reason: 'unknown-ca', hint: 'ca names a PEM file that this service can read' })
}
