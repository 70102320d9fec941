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
    if (!checkPlace(ccache, { path, directory, handle: textOf(account, 'account') ?? name }, report)) continue
    const { file } = placeOf(entryOf(ccache), textOf(account, 'account') ?? name, directory)
    const other = taken.get(file)
    if (other !== undefined)
      report([...path, ccache['lease'] === undefined ? 'file' : 'lease'], `expected another file than ${other}`)
    taken.set(file, `that of ${name}`)
  }
}

/** Whether it is clear where the ticket stands. */
function checkPlace(
  ccache: Mapping,
  { path, directory, handle }: { path: Path; directory: string | undefined; handle: string },
  report: Report,
): boolean {
  const { file, lease, gmsa } = entryOf(ccache)
  const count = [own(ccache, 'file'), own(ccache, 'lease')].filter((each) => each !== undefined).length
  if (count !== 1) report(path, 'expected either file or lease')
  else if (own(ccache, 'file') !== undefined && own(ccache, 'gmsa') !== undefined)
    report([...path, 'gmsa'], 'only with lease')
  else if (own(ccache, 'lease') !== undefined && directory === undefined)
    report([...path, 'lease'], 'expected leases.directory, the folder of all leases')
  else if (lease !== undefined && gmsa === undefined && !isLeaseGmsa(handle))
    report([...path, 'lease'], 'expected gmsa beside it: the name of the account is none of a folder')
  else return file !== undefined || lease !== undefined
  return false
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
