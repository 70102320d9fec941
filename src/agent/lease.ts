import { constants } from 'node:fs'
import { chmod, lstat, mkdir, open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { writeFileAtomically } from '../base/atomic-file.ts'
import { GmsaError } from '../base/errors.ts'
import type { Principal } from '../kerberos/principal.ts'
import type { LeasePlace, OutputConfig } from './config.ts'

// The layout of credentials-fetcher, as the tasks of ECS know it: <directory>/<lease>/<gMSA>/krb5cc, and the lease's
// record <directory>/<lease>/<lease>_metadata.json. A task sees the gMSA's folder alone, mounted at another place.

export const TICKET_NAME = 'krb5cc'
/** Others may look into the folders, as with credentials-fetcher: the ticket in them has a mode of its own. */
const FOLDER_MODE = 0o755
const RECORD_MODE = 0o644
/** A record has a few lines for each gMSA. */
const MAX_RECORD_BYTES = 1 << 20

/** The folders of a place, from the outermost in. */
export function leaseFolders({ directory, lease, gmsa }: LeasePlace): readonly [string, string, string] {
  return [directory, join(directory, lease), join(directory, lease, gmsa)]
}

export const ticketFile = (place: LeasePlace): string => join(leaseFolders(place)[2], TICKET_NAME)
export const recordName = (lease: string): string => `${lease}_metadata.json`

/**
 * Makes the folders of a lease where they are missing, so that those who may read the ticket reach it; they are the
 * agent's own. Rejects with CONFIG_INVALID: where one can't be made, is a link or no folder, or where somebody else may
 * write, who could put a link in the ticket's place.
 */
export async function makeLeaseFolders(place: LeasePlace): Promise<void> {
  for (const folder of leaseFolders(place)) {
    if (await makeFolder(folder)) await chmod(folder, FOLDER_MODE)
    await expectOwnFolder(folder)
  }
  await expectNoLink(ticketFile(place))
}

/** Whether it was missing. */
async function makeFolder(path: string): Promise<boolean> {
  try {
    await mkdir(path, { mode: FOLDER_MODE })
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return false
    throw new GmsaError('CONFIG_INVALID', `${path}: can't be made (${code})`, {
      cause: error,
      ...(code === 'ENOENT' && { hint: `make ${dirname(path)} first` }),
    })
  }
}

/** Rejects with CONFIG_INVALID where `path` is no folder of root's or our own, or others may write there. */
export async function expectOwnFolder(path: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    throw new GmsaError('CONFIG_INVALID', `${path}: can't be looked at (${error.code})`, { cause: error })
  })
  if (!found.isDirectory()) throw new GmsaError('CONFIG_INVALID', `${path}: expected a folder, and no link to one`)
  if ([0, process.geteuid?.()].includes(found.uid) && (found.mode & 0o022) === 0) return
  throw new GmsaError('CONFIG_INVALID', `${path}: somebody else may write there`, {
    hint: "give it to root or the agent's user, and take the right to write from group and others: chmod go-w",
  })
}

export async function expectNoLink(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined)
  if (found?.isSymbolicLink()) throw new GmsaError('CONFIG_INVALID', `${path}: a link stands there: remove it`)
}

/** What credentials-fetcher writes of one ticket. Nothing of it is secret. */
interface TicketInfo {
  readonly krb_file_path: string
  readonly service_account_name: string
  readonly domain_name: string
  /** Of these three the agent knows nothing: it logs on as the gMSA itself, and asks no directory. */
  readonly domainless_user: string
  readonly distinguished_name: string
  readonly credspec_info: string
}

/** The records of this agent's leases. Several accounts may share a lease: their updates come one after the other. */
export class LeaseRecords {
  readonly #places: readonly LeasePlace[]
  readonly #known = new Map<string, TicketInfo>()
  #last: Promise<unknown> = Promise.resolve()

  constructor(outputs: readonly Pick<OutputConfig, 'lease'>[]) {
    this.#places = outputs.flatMap(({ lease }) => (lease ? [lease] : []))
  }

  /** Brings the lease's record up to date for the ticket of `client`. Rejects with a GmsaError. */
  async update(place: LeasePlace, client: Principal): Promise<void> {
    const file = ticketFile(place)
    this.#known.set(file, {
      krb_file_path: file,
      service_account_name: place.gmsa,
      domain_name: client.realm.toLowerCase(),
      domainless_user: '',
      distinguished_name: '',
      credspec_info: '',
    })
    const turn = this.#last.then(() => this.#write(place))
    this.#last = turn.catch(() => {})
    return turn
  }

  /** Of the gMSAs that the configuration puts there; one not seen yet has its old place as long as it has one. */
  async #write(place: LeasePlace): Promise<void> {
    const [, folder] = leaseFolders(place)
    const path = join(folder, recordName(place.lease))
    const found = await readRecord(path)
    const before = parseRecord(found?.text)
    const files = this.#places.filter((each) => leaseFolders(each)[1] === folder).map(ticketFile)
    const tickets = files.flatMap((file) => {
      const info = this.#known.get(file) ?? before.find((each) => isAbout(each, file))
      return info === undefined ? [] : [info]
    })
    const text = `${JSON.stringify({ krb_ticket_info: tickets }, null, 2)}\n`
    if (found?.text === text && found.mode === RECORD_MODE) return
    await writeFileAtomically(path, text, RECORD_MODE).catch((error: NodeJS.ErrnoException) => {
      throw new GmsaError('STORE_UNAVAILABLE', `${path}: can't be written (${error.code})`, { cause: error })
    })
  }
}

/** Undefined where there is none, or something else stands there: it is replaced. */
async function readRecord(path: string): Promise<{ text: string; mode: number } | undefined> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  const file = await open(path, flags).catch(() => undefined)
  if (!file) return undefined
  try {
    const stat = await file.stat()
    if (!stat.isFile() || stat.size > MAX_RECORD_BYTES) return undefined
    return { text: await file.readFile('utf8'), mode: stat.mode & 0o7777 }
  } finally {
    await file.close()
  }
}

function parseRecord(text = '{}'): readonly unknown[] {
  try {
    const { krb_ticket_info: tickets }: { krb_ticket_info?: unknown } = Object(JSON.parse(text))
    return Array.isArray(tickets) ? tickets : []
  } catch {
    return []
  }
}

function isAbout(info: unknown, file: string): boolean {
  return typeof info === 'object' && info !== null && 'krb_file_path' in info && info.krb_file_path === file
}

/** Throws CONFIG_INVALID where the folder has another name than the gMSA whose ticket it is to hold. */
export function expectGmsa({ gmsa }: LeasePlace, { components: [name = ''] }: Principal): void {
  const own = name.replace(/\$$/, '')
  if (own.toLowerCase() === gmsa.toLowerCase()) return
  throw new GmsaError('CONFIG_INVALID', `the lease's folder is named ${gmsa}, and the gMSA ${own}`, {
    hint: "set ccache.gmsa to the gMSA's name as the credential spec has it",
  })
}
