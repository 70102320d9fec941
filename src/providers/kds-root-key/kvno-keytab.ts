import { basename, dirname } from 'node:path'
import { GmsaError } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import type { Secret } from '../../base/secret.ts'
import { deriveKey } from '../../gmsa/derive.ts'
import { ENCTYPES } from '../../kerberos/enctype.ts'
import { type KeytabEntry, parseKeytab } from '../../kerberos/keytab.ts'
import { SecretFiles } from '../secret-files.ts'

/** Which password of an account has which kvno, by a keytab that was made with the directory's own tools. */
export interface KvnoKeytab extends Disposable {
  /** The highest kvno under which the keytab has the key of this password. Undefined where it has none of it. */
  kvnoOf(password: Secret, salt: string): Promise<number | undefined>
}

/** How files that hold secrets are read. */
interface FileRules {
  readonly allowReadable: boolean
  readonly log: Log
}

/** Reads the keytab; its keys are overwritten when it is disposed. Rejects with a GmsaError. */
export async function openKvnoKeytab(path: string, rules: FileRules, signal: AbortSignal): Promise<KvnoKeytab> {
  const entries = await readEntries(path, rules, signal)
  // Keys of one enctype will do, and each takes its time.
  const enctype = ENCTYPES.find(({ number }) => entries.some((each) => each.enctype === number))
  return {
    async kvnoOf(password, salt) {
      if (!enctype) return undefined
      const key = Buffer.from(await deriveKey(password, enctype.number, salt))
      const kvnos = entries.filter((each) => key.equals(each.key.reveal())).map(({ kvno }) => kvno)
      key.fill(0)
      const highest = Math.max(0, ...kvnos)
      return highest > 0 ? highest : undefined
    },
    [Symbol.dispose]() {
      for (const { key } of entries) key.wipe()
    },
  }
}

async function readEntries(path: string, rules: FileRules, signal: AbortSignal): Promise<readonly KeytabEntry[]> {
  const files = new SecretFiles(dirname(path), rules.allowReadable, rules.log)
  const bytes = await files.readBytes(files.directory, basename(path), signal)
  if (!bytes) throw new GmsaError('ACCOUNT_NOT_FOUND', `${path}: no such file`)
  try {
    return parseKeytab(bytes)
  } finally {
    bytes.fill(0)
  }
}
