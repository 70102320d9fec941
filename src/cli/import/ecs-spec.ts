import { toGmsaError } from '../../base/errors.ts'
import { asRecord } from '../config-document.ts'
import { parseSpecDocument } from '../credential-spec-report.ts'
import type { Note } from './imported.ts'
import type { Setting } from './ini.ts'

/** Reads a file that the configuration names; undefined where it can't be read. */
export type ReadFile = (path: string) => Promise<Buffer | undefined>

/** What a credential spec says of its gMSA, as credentials-fetcher reads it. */
export interface Spec {
  /** In lower case. */
  readonly domain: string
  /** Without a `$` at its end. */
  readonly name: string
  /** Name or ARN of the secret with the user who may read the gMSA's password. */
  readonly secret?: string
}

/** The plug-in of Amazon's container hosts for Windows, whose input credentials-fetcher takes as well. */
const ECS_PLUGIN = '859E1386-BDB4-49E8-85C7-3070B13920E1'
const ACCOUNTS = 'ActiveDirectoryConfig.GroupManagedServiceAccounts'
const PLUGIN_INPUT = 'ActiveDirectoryConfig.HostAccountConfig.PluginInput'

/** The credential spec in the file; what of it can't be carried over is noted by its place, and not quoted. */
export async function readSpec(
  path: string,
  from: Setting | undefined,
  read: ReadFile,
  notes: Note[],
): Promise<Spec | undefined> {
  const where = { option: from?.written ?? 'CF_CRED_SPEC_FILE', ...(from && { line: from.line }) }
  const note = (problem: string) => notes.push({ ...where, advice: problem })
  const bytes = path === '' ? undefined : await read(path)
  if (!bytes) {
    note('no credential spec to read: set the domain and the name of the gMSA in both files')
    return undefined
  }
  try {
    return specOf(parseSpecDocument(bytes, path), path, note)
  } catch (thrown) {
    note(`${toGmsaError(thrown).message}: set the domain and the name of the gMSA in both files`)
    return undefined
  }
}

function specOf(document: unknown, path: string, note: (problem: string) => void): Spec | undefined {
  const { DomainJoinConfig, ActiveDirectoryConfig } = asRecord(asRecord(document)['credspec'] ?? document)
  const { DnsName: domain } = asRecord(DomainJoinConfig)
  const { GroupManagedServiceAccounts: accounts, HostAccountConfig } = asRecord(ActiveDirectoryConfig)
  const names = namesOf(accounts)
  const [first] = names
  const absent = (member: string, what: string) => note(`${path}: ${member}: expected ${what}: set it in both files`)
  if (typeof domain !== 'string' || domain === '') absent('DomainJoinConfig.DnsName', 'the DNS name of the domain')
  if (!first) absent(ACCOUNTS, 'an entry with the Name of the gMSA')
  if (typeof domain !== 'string' || domain === '' || !first) return undefined
  for (const other of names.filter((each) => each.name.toLowerCase() !== first.name.toLowerCase())) {
    note(
      `${path}: ${ACCOUNTS}[${other.index}]: another gMSA, ${other.name}: credentials-fetcher takes the first alone; so is it here`,
    )
  }
  const secret = secretOf(asRecord(HostAccountConfig), (problem) => note(`${path}: ${PLUGIN_INPUT}: ${problem}`))
  return { domain: domain.toLowerCase(), name: first.name, ...(secret !== undefined && { secret }) }
}

function namesOf(accounts: unknown): { readonly name: string; readonly index: number }[] {
  return (Array.isArray(accounts) ? accounts : []).flatMap((each, index) => {
    const { Name: name } = asRecord(each)
    return typeof name === 'string' && name !== '' && name !== '$' ? [{ name: name.replace(/\$$/, ''), index }] : []
  })
}

/** Amazon's input is an object with an ARN, or in its own README a name. Another's may even be a password. */
function secretOf(
  { PluginGUID: plugin, PluginInput: input }: Readonly<Record<string, unknown>>,
  note: (problem: string) => void,
): string | undefined {
  if (input === undefined) return undefined
  const { CredentialArn: arn } = asRecord(input)
  if (typeof arn === 'string' && arn !== '') return arn
  const isOurs = typeof plugin === 'string' && plugin.replace(/^\{|\}$/g, '').toUpperCase() === ECS_PLUGIN
  if (isOurs && typeof input === 'string' && input !== '') return input
  note(
    isOurs ? 'expected an object with CredentialArn, or the name of a secret' : "another plug-in's: not carried over",
  )
  return undefined
}
