import { readdirSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { GmsaError } from '../../base/errors.ts'
import { watchDirectories } from '../../base/watch.ts'
import { defineProvider } from '../define.ts'
import type { Account, ProviderContext } from '../provider.ts'
import { fromRecords, isBinary, MEMBERS, malformed, type RecordStore, type StoredRecord } from '../records.ts'
import { decodeUtf8, SecretFiles } from '../secret-files.ts'
import { parseDocument } from './document.ts'

const schema = {
  type: 'object',
  properties: {
    directory: {
      type: 'string',
      minLength: 1,
      format: 'path',
      description: 'Folder that holds a file or a folder for each account.',
    },
    allowReadable: {
      type: 'boolean',
      default: false,
      description: 'Accept files that group or others can read, which are otherwise refused on a writable file system.',
    },
  },
  required: ['directory'],
  additionalProperties: false,
} as const

/** Files of a folder: `NAME.yaml`, `NAME.yml` or `NAME.json`, or a folder `NAME` with a file for each member. */
export const file = defineProvider({
  type: 'file',
  summary: 'Files on disk: a YAML or JSON document for each account, or a folder with one file a member.',
  schema,
  accountSchema: { type: 'object', properties: {}, additionalProperties: false },
  async open(name, options, context) {
    if (!isAbsolute(options.directory))
      throw new GmsaError('CONFIG_INVALID', `providers.${name}.directory: not an absolute path`)
    const files = new SecretFiles(options.directory, options.allowReadable ?? false, context.log)
    return fromRecords(name, fileRecords(files, context), context.clock, context.log)
  },
})

const DOCUMENT_ENDINGS = ['.yaml', '.yml', '.json'] as const
/** `secret` names one file of the folder: nothing that could lead out of it, or to the links of a volume. */
const FILE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$/
/** How often to start anew when the files are swapped under the read. */
const TRIES = 5

function fileRecords(files: SecretFiles, context: ProviderContext): RecordStore {
  return {
    async read(account, signal) {
      const records = await readAll(files, account, signal)
      const [record] = records
      if (records.length > 1)
        throw malformed(account.name, 'more than one file or folder of that name', 'keep one of them')
      if (record) return record
      await files.probe()
      throw new GmsaError('ACCOUNT_NOT_FOUND', `no file or folder for account ${account.name}`)
    },
    probe: () => files.probe(),
    watch(changed) {
      // Which file it was does not matter: reading again is cheap, and links (`..data`) hide the name.
      return watchDirectories(
        () => foldersIn(files.directory),
        () => changed(),
        { clock: context.clock },
      )
    },
  }
}

/**
 * Everything of that name, in whatever form. Read again when the folder or the whole volume was swapped meanwhile, so
 * that all of it belongs together: members of one version, and no document found twice under two names.
 */
async function readAll(
  files: SecretFiles,
  account: Account,
  signal: AbortSignal,
  tries = TRIES,
): Promise<StoredRecord[]> {
  const name = checkedName(account)
  const before = await files.layout(name)
  const found = [before.folder === undefined ? undefined : await readMembers(files, before.folder, signal)]
  for (const ending of DOCUMENT_ENDINGS) {
    const text = await files.read(files.directory, name + ending, signal)
    if (text !== undefined) found.push(parseDocument(text, ending === '.json' ? 'json' : 'yaml', account.name))
  }
  const after = await files.layout(name)
  if (after.root === before.root && after.folder === before.folder) return found.filter((each) => each !== undefined)
  if (tries > 1) return readAll(files, account, signal, tries - 1)
  throw new GmsaError('STORE_UNAVAILABLE', `the files of account ${account.name} keep changing`)
}

/** The Kubernetes way: a folder whose files are the members. A line break that an editor left at the end is dropped. */
async function readMembers(files: SecretFiles, folder: string, signal: AbortSignal): Promise<StoredRecord> {
  const record: Record<string, string> = {}
  for (const member of MEMBERS) {
    const bytes = await files.readBytes(folder, member, signal)
    if (bytes) record[member] = memberText(bytes, member, join(folder, member))
  }
  return record
}

function memberText(bytes: Buffer, member: string, path: string): string {
  if (!isBinary(member, bytes)) return decodeUtf8(bytes, path).replace(/\r?\n$/, '')
  const text = bytes.toString('base64')
  bytes.fill(0)
  return text
}

/** The folder, the folders of members in it, and what other links lead to: what happens there is not seen above. */
function foldersIn(directory: string): string[] {
  try {
    const folders = readdirSync(directory, { withFileTypes: true })
      .filter((entry) => FILE_NAME.test(entry.name))
      .filter((entry) => entry.isDirectory() || (entry.isSymbolicLink() && !isDocument(entry.name)))
    return [directory, ...folders.map(({ name }) => join(directory, name))]
  } catch {
    return [directory]
  }
}

function isDocument(file: string): boolean {
  return DOCUMENT_ENDINGS.some((ending) => file.endsWith(ending))
}

function checkedName(account: Account): string {
  if (FILE_NAME.test(account.secret)) return account.secret
  throw new GmsaError('ACCOUNT_NOT_FOUND', `secret of account ${account.name} is not the name of a file or folder`)
}
