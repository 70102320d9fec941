import type { LeasePlace } from '../agent/config.ts'
import { ticketFile } from '../agent/lease.ts'
import { isLeaseGmsa } from '../agent/lease-names.ts'
import type { AccountEntry } from './agent-schema.ts'
import { asRecord, own } from './config-document.ts'
import type { Path } from './config-problem.ts'

type Report = (path: Path, message: string) => void
type Mapping = Readonly<Record<string, unknown>>
type CcacheEntry = NonNullable<AccountEntry['ccache']>

/** Where a ticket stands: in the file that is named, or in a lease below `directory`. */
export function placeOf(
  { file = '', lease, gmsa }: CcacheEntry,
  account: string,
  directory: string | undefined,
): { readonly file: string; readonly lease?: LeasePlace } {
  if (lease === undefined || directory === undefined) return { file }
  const place = { directory, lease, gmsa: gmsa ?? account }
  return { file: ticketFile(place), lease: place }
}

/** What a schema can't say of credential caches: where they stand, and that each has a file of its own. */
export function checkTickets(root: Mapping, report: Report): void {
  const accounts = Object.entries(asRecord(own(root, 'accounts'))).map(
    ([name, each]) => [name, asRecord(each)] as const,
  )
  const directory = textOf(asRecord(own(root, 'leases')), 'directory')
  const taken = new Map<string, string>()
  for (const [, account] of accounts) {
    for (const kind of ['acceptorKeytab', 'initiatorKeytab']) {
      const file = textOf(asRecord(own(account, kind)), 'file')
      if (file !== undefined) taken.set(file, 'that of a keytab')
    }
  }
  for (const [name, account] of accounts) {
    if (own(account, 'ccache') === undefined) continue
    const path = ['accounts', name, 'ccache']
    const ccache = asRecord(own(account, 'ccache'))
    const handle = textOf(account, 'account') ?? name
    const problem = placeProblem(ccache, directory, handle)
    if (problem) {
      report([...path, ...problem[0]], problem[1])
      continue
    }
    const { file, lease } = placeOf(entryOf(ccache), handle, directory)
    // Neither is a text: that is the schema's to say.
    if (file === '') continue
    const other = taken.get(file)
    if (other !== undefined) report([...path, lease ? 'lease' : 'file'], `expected another file than ${other}`)
    taken.set(file, `that of ${name}`)
  }
}

/** What is wrong with the place of a ticket, and at which option. */
function placeProblem(
  ccache: Mapping,
  directory: string | undefined,
  handle: string,
): readonly [path: Path, problem: string] | undefined {
  const has = (name: string) => own(ccache, name) !== undefined
  if (has('file') === has('lease')) return [[], 'expected either file or lease']
  if (has('file')) return has('gmsa') ? [['gmsa'], 'only with lease'] : undefined
  if (directory === undefined) return [['lease'], 'expected leases.directory, the folder of all leases']
  if (has('gmsa') || isLeaseGmsa(handle)) return undefined
  return [['lease'], 'expected gmsa beside it: the name of the account is none of a folder']
}

const textOf = (mapping: Mapping, name: string): string | undefined => {
  const value = own(mapping, name)
  return typeof value === 'string' ? value : undefined
}

function entryOf(ccache: Mapping): CcacheEntry {
  const [file, lease, gmsa] = ['file', 'lease', 'gmsa'].map((name) => textOf(ccache, name))
  return {
    ...(file !== undefined && { file }),
    ...(lease !== undefined && { lease }),
    ...(gmsa !== undefined && { gmsa }),
  }
}
