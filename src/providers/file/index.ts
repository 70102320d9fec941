import { isAbsolute } from 'node:path'
import { Type } from 'typebox'
import { GmsaError } from '../../base/errors.ts'
import { watchDirectories } from '../../base/watch.ts'
import { defineProvider } from '../define.ts'
import type { Account, ProviderContext } from '../provider.ts'
import { fromRecords, malformed, type RecordStore, type StoredRecord } from '../records.ts'
import { parseDocument } from './document.ts'
import { SecretFiles } from './secret-files.ts'

const schema = Type.Object(
  {
    directory: Type.String({
      minLength: 1,
      format: 'path',
      description: 'Folder that holds a file or a folder for each account.',
    }),
    allowReadable: Type.Optional(
      Type.Boolean({
        default: false,
        description:
          'Accept files that group or others can read, which are otherwise refused on a writable file system.',
      }),
    ),
  },
  { additionalProperties: false },
)

/** Files of a folder: `NAME.yaml`, `NAME.yml` or `NAME.json`, or a folder `NAME` with a file for each member. */
export const file = defineProvider({
  type: 'file',
  summary: 'Files on disk: a YAML or JSON document for each account, or a folder with one file a member.',
  schema,
  accountSchema: Type.Object({}, { additionalProperties: false }),
  async open(name, options, context) {
    if (!isAbsolute(options.directory))
      throw new GmsaError('CONFIG_INVALID', `providers.${name}.directory: not an absolute path`)
    const files = new SecretFiles(options.directory, options.allowReadable ?? false, context.log)
    return fromRecords(name, fileRecords(files, context))
  },
})

const DOCUMENT_ENDINGS = ['.yaml', '.yml', '.json'] as const
const MEMBERS = ['username', 'password', 'domainName'] as const

function fileRecords(files: SecretFiles, context: ProviderContext): RecordStore {
  return {
    async read(account, signal) {
      const found = [await readMembers(files, account, signal)]
      for (const ending of DOCUMENT_ENDINGS) found.push(await readDocument(files, account, ending, signal))
      const records = found.filter((record) => record !== undefined)
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
      return watchDirectories([files.directory], () => changed(), { clock: context.clock })
    },
  }
}

async function readDocument(
  files: SecretFiles,
  account: Account,
  ending: string,
  signal: AbortSignal,
): Promise<StoredRecord | undefined> {
  const text = await files.read([checkedName(account) + ending], signal)
  return text === undefined ? undefined : parseDocument(text, ending === '.json' ? 'json' : 'yaml', account.name)
}

/**
 * The Kubernetes way: a folder whose files are the members. A line break that an editor left at the end is dropped.
 * Read again when the volume was swapped meanwhile, so that the members always belong together.
 */
async function readMembers(
  files: SecretFiles,
  account: Account,
  signal: AbortSignal,
  tries = 3,
): Promise<StoredRecord | undefined> {
  const folder = await files.snapshot(checkedName(account))
  if (!folder) return undefined
  const record: Record<string, string> = {}
  for (const member of MEMBERS) {
    const text = await files.read([...folder, member], signal)
    if (text !== undefined) record[member] = text.replace(/\r?\n$/, '')
  }
  const after = await files.snapshot(checkedName(account))
  if (after?.join('/') === folder.join('/')) return record
  if (tries > 1) return readMembers(files, account, signal, tries - 1)
  throw new GmsaError('STORE_UNAVAILABLE', `the folder of account ${account.name} keeps changing`)
}

/** `secret` names one file of the folder: nothing that could lead out of it, or to the links of a volume. */
function checkedName(account: Account): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$/.test(account.secret)) return account.secret
  throw new GmsaError('ACCOUNT_NOT_FOUND', `secret of account ${account.name} is not the name of a file or folder`)
}
