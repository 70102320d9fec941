import { lstat, readdir, rmdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { GmsaError } from '../base/errors.ts'
import { expectOwnFolder, recordName, TICKET_NAME } from './lease.ts'
import { isLeaseGmsa, isLeaseId } from './lease-names.ts'

/** A lease that stands in the folder of all leases. */
export interface FoundLease {
  readonly lease: string
  /** The gMSAs with a folder in it. */
  readonly gmsas: readonly string[]
}

/** What became of what stood in a lease's folder; absolute paths. */
export interface LeaseRemoval {
  readonly removed: readonly string[]
  /** What is no file or folder of a lease, and so stays. */
  readonly kept: readonly string[]
}

/** The leases below `directory`; whatever is no lease, or is a link, is passed over. Rejects with CONFIG_INVALID. */
export async function listLeases(directory: string): Promise<FoundLease[]> {
  if (await isMissing(directory)) return []
  await expectOwnFolder(directory)
  const leases = await foldersIn(directory, isLeaseId)
  return Promise.all(
    leases.map(async (lease) => ({ lease, gmsas: await foldersIn(join(directory, lease), isLeaseGmsa) })),
  )
}

/**
 * Removes one lease below `directory`: the files that the agent and credentials-fetcher put there, then the folders that
 * are empty. Nothing else is touched, no link is followed or removed, and what is gone already is no error. Rejects with
 * REQUEST_INVALID for what is no ID, and with CONFIG_INVALID where somebody else could change the way meanwhile.
 */
export async function removeLease(directory: string, lease: string): Promise<LeaseRemoval> {
  if (!isLeaseId(lease)) {
    throw new GmsaError('REQUEST_INVALID', 'lease ID: expected letters, digits, dashes and underscores, 64 at most', {
      hint: 'agent lease list shows those that there are',
    })
  }
  const folder = join(directory, lease)
  if ((await isMissing(directory)) || (await isMissing(folder))) return { removed: [], kept: [] }
  await expectOwnFolder(directory)
  await expectOwnFolder(folder)
  const gmsas = (await foldersIn(folder, isLeaseGmsa)).map((gmsa) => join(folder, gmsa))
  for (const each of gmsas) await expectOwnFolder(each)
  const removed: string[] = []
  for (const each of gmsas) removed.push(...(await removeFiles(each, TICKET_FILES)))
  removed.push(...(await removeFiles(folder, recordFiles(lease))))
  for (const each of [...gmsas, folder]) if (await removeIfEmpty(each)) removed.push(each)
  return { removed, kept: await remaining(folder) }
}

/** The ticket, one that a killed process was writing, and the marks of hooks. */
const TICKET_FILES = new RegExp(
  `^(?:${TICKET_NAME}|\\.${TICKET_NAME}\\.(?:[0-9a-f]{12}\\.tmp|[a-z0-9.-]+-ccache\\.pending))$`,
)

function recordFiles(lease: string): RegExp {
  const name = RegExp.escape(recordName(lease))
  return new RegExp(`^(?:${name}|\\.${name}\\.[0-9a-f]{12}\\.tmp)$`)
}

/** By lstat: a link is no folder. */
async function foldersIn(path: string, isName: (name: string) => boolean): Promise<string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch(toDenied(path))
  return entries.flatMap((each) => (each.isDirectory() && isName(each.name) ? [each.name] : [])).toSorted()
}

async function removeFiles(folder: string, names: RegExp): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(toDenied(folder))
  const files = entries.filter((each) => each.isFile() && names.test(each.name)).map(({ name }) => join(folder, name))
  for (const file of files) await unlink(file).catch(unlessGone(file))
  return files
}

async function removeIfEmpty(folder: string): Promise<boolean> {
  try {
    await rmdir(folder)
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOENT') return false
    return toDenied(folder)(error as NodeJS.ErrnoException)
  }
}

/** What stands in a folder that is still there: the strangers in it, and in its own folders. */
async function remaining(folder: string): Promise<string[]> {
  if (await isMissing(folder)) return []
  const entries = await readdir(folder, { withFileTypes: true }).catch(toDenied(folder))
  const below = entries.map(async (each) => {
    const path = join(folder, each.name)
    return each.isDirectory() && isLeaseGmsa(each.name) ? (await readdir(path)).map((name) => join(path, name)) : [path]
  })
  return (await Promise.all(below)).flat().toSorted()
}

async function isMissing(path: string): Promise<boolean> {
  return lstat(path).then(
    () => false,
    (error: NodeJS.ErrnoException) => error.code === 'ENOENT',
  )
}

const toDenied =
  (path: string) =>
  (error: NodeJS.ErrnoException): never => {
    throw new GmsaError('STORE_DENIED', `${path}: can't be read or removed (${error.code})`, { cause: error })
  }

const unlessGone = (path: string) => (error: NodeJS.ErrnoException) => {
  if (error.code !== 'ENOENT') toDenied(path)(error)
}
