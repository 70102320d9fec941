import { basename, dirname } from 'node:path'
import { GmsaError } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import { SecretFiles } from '../secret-files.ts'

/** Reads a secret of ours: a token, an ID, a key. Rejects with STORE_DENIED, STORE_UNAVAILABLE, or as `signal` says. */
export type ReadSecretFile = (signal: AbortSignal) => Promise<string>

/** A file that holds one secret, with the blanks around it dropped. Read anew each time. */
export function secretFile(path: string, allowReadable: boolean, log: Log): ReadSecretFile {
  const files = new SecretFiles(dirname(path), allowReadable, log)
  return async (signal) => {
    const text = await files.read(files.directory, basename(path), signal).catch((error) => {
      throw error instanceof GmsaError ? ofOurs(error) : error
    })
    const secret = text?.trim() ?? ''
    if (secret !== '') return secret
    throw new GmsaError('STORE_DENIED', `${path}: ${text === undefined ? 'no such file' : 'the file is empty'}`, {
      reason: 'not-found',
    })
  }
}

/** Damage of *our* file must not look like that of the record asked for. */
function ofOurs(error: GmsaError): GmsaError {
  if (error.code !== 'MATERIAL_MALFORMED') return error
  return new GmsaError('STORE_DENIED', error.message, { cause: error })
}

/** The same for what stands in an HTTP header or a JSON body and has no blanks: the parser of either would quote it. */
export function wordFile(path: string, allowReadable: boolean, log: Log): ReadSecretFile {
  const read = secretFile(path, allowReadable, log)
  return async (signal) => {
    const word = await read(signal)
    if (/^[\x21-\x7e]+$/.test(word)) return word
    throw new GmsaError('STORE_DENIED', `${path}: expected one word of printable ASCII and nothing else`)
  }
}
