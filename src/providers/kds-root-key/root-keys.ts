import { basename, dirname, isAbsolute } from 'node:path'
import { GmsaError } from '../../base/errors.ts'
import { watchFiles } from '../../base/watch.ts'
import type { KdsRootKeys } from '../../gmsa/material.ts'
import type { ProviderContext } from '../provider.ts'
import { MAX_ROOT_KEY_TEXT, parseRootKeys } from '../root-key-records.ts'
import { SecretFiles } from '../secret-files.ts'
import type { Options } from './schema.ts'

/** Where the root keys are. Nothing is kept: each read takes them anew, and the reader wipes them. */
export interface RootKeySource {
  /** Rejects with a GmsaError. */
  read(signal: AbortSignal): Promise<KdsRootKeys>
  /** Present where changes can be seen. */
  watch?(changed: () => void): Disposable
}

/** Prepares the source that `rootKeys` describes. Throws CONFIG_INVALID. */
export function openRootKeys(name: string, options: Options, context: ProviderContext): RootKeySource {
  const { file, provider, account } = options.rootKeys
  if (file !== undefined) return fileSource(name, file, options.allowReadable ?? false, context)
  const { readRootKeys } = context
  if (!readRootKeys || provider === undefined || account === undefined || provider === name) {
    throw new GmsaError('CONFIG_INVALID', `providers.${name}.rootKeys.provider: expected another provider`)
  }
  return { read: (signal) => ours(() => readRootKeys(provider, account, signal)) }
}

function fileSource(
  name: string,
  path: string,
  allowReadable: boolean,
  { log, clock }: ProviderContext,
): RootKeySource {
  if (!isAbsolute(path)) throw new GmsaError('CONFIG_INVALID', `providers.${name}.rootKeys.file: not an absolute path`)
  const files = new SecretFiles(dirname(path), allowReadable, log, MAX_ROOT_KEY_TEXT)
  const complain = (problem: string, hint?: string) =>
    new GmsaError('MATERIAL_MALFORMED', `${path}: ${problem}`, hint ? { hint } : {})
  return {
    read: (signal) =>
      ours(async () => {
        const text = await files.read(files.directory, basename(path), signal)
        if (text === undefined) throw new GmsaError('ACCOUNT_NOT_FOUND', `${path}: no such file`)
        return parseRootKeys(text, complain)
      }),
    watch: (changed) => watchFiles([path], changed, { clock }),
  }
}

/** Absence of the root keys must not look like that of the account asked for. */
async function ours(read: () => Promise<KdsRootKeys>): Promise<KdsRootKeys> {
  try {
    return await read()
  } catch (error) {
    if (!(error instanceof GmsaError) || !['ACCOUNT_NOT_FOUND', 'KIND_NOT_OFFERED'].includes(error.code)) throw error
    throw new GmsaError('STORE_DENIED', `root keys: ${error.message}`, { cause: error, reason: 'not-found' })
  }
}
