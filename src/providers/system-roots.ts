import { readFile } from 'node:fs/promises'
import { getCACertificates } from 'node:tls'
import { GmsaError } from '../base/errors.ts'

/** PEM of the operating system's roots, where companies put their own; the runtime's where it has none. */
export function systemRoots(): string[] {
  const roots = getCACertificates('system')
  return roots.length > 0 ? roots : getCACertificates('default')
}

/** The text of the PEM file that an option `ca` names. Rejects with STORE_UNAVAILABLE where it can't be read. */
export async function readCa(path: string): Promise<string> {
  return readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new GmsaError('STORE_UNAVAILABLE', `${path}: ${error.code ?? 'cannot be read'}`, {
      cause: error,
      reason: 'unknown-ca',
      hint: 'ca names a PEM file that this service can read',
    })
  })
}
