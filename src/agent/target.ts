import { constants } from 'node:fs'
import { lstat, open, readFile, readlink, realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { type FileOwner, removeAbandoned, tryToWrite, writeFileAtomically } from '../base/atomic-file.ts'
import { GmsaError } from '../base/errors.ts'
import type { OutputConfig } from './config.ts'
import { makeLeaseFolders } from './lease.ts'
import { resolveOwner } from './owner.ts'

export interface TargetOptions extends FileOwner {
  /** Absolute, as configured. */
  readonly file: string
  readonly mode: number
  /** Makes the way to the file, or rejects with CONFIG_INVALID where it is not to be gone; called before each use. */
  readonly prepare?: () => Promise<void>
}

/** What stands in a file now. */
export interface Found {
  readonly bytes: Buffer
  /** Whether mode and owner are those that were asked for. */
  readonly asWished: boolean
}

/** A file that is replaced as a whole, never written in place. */
export interface Target {
  readonly file: string
  /** Where the bytes go: the end of a chain of links, which stay as they are. Rejects as {@link openTarget} does. */
  locate(): Promise<string>
  /** The file's contents, at most `most` bytes; undefined where there is none. Rejects with a GmsaError. */
  read(path: string, most: number): Promise<Found | undefined>
  /** Rejects with a GmsaError; the old file stays then. */
  replace(path: string, bytes: Uint8Array): Promise<void>
}

/** More links than any system follows (ELOOP). */
const MAX_LINKS = 40
/** What a killed process left behind is removed once it is this old, in ms: another may just be at it. */
const ABANDONED_AFTER = 60_000

/**
 * Makes sure that the file can be replaced with the mode and owner asked for, by trying it on another name in its
 * folder, and tidies up after a process that was killed. Rejects with CONFIG_INVALID: no folder, no permission, a
 * read-only volume, an owner that can't be set, a folder in the file's place, or a mount of the single file.
 */
export async function openTarget(options: TargetOptions): Promise<Target> {
  const { file, mode, uid, gid, prepare } = options
  const locate = async () => {
    await prepare?.()
    return locateFile(file)
  }
  const path = await locate()
  const now = await tryToWrite(path, mode, options).catch((error) => {
    throw new GmsaError('CONFIG_INVALID', `${file}: can't be written (${describe(error, options)})`, {
      cause: error,
      ...hintFor(error),
    })
  })
  await removeAbandoned(path, now - ABANDONED_AFTER)
  return {
    file,
    locate,
    read: (at, most) =>
      readBounded(at, most, { mode, ...(uid !== undefined && { uid }), ...(gid !== undefined && { gid }) }),
    async replace(at, bytes) {
      await writeFileAtomically(at, bytes, mode, options).catch((error) => {
        throw fileError(`${file}: can't be written`, error)
      })
    },
  }
}

/** {@link openTarget} for an output, its owner looked up. */
export async function openConfigured(config: OutputConfig): Promise<Target> {
  const { file, mode, lease } = config
  const prepare = lease && (() => makeLeaseFolders(lease))
  return openTarget({ file, mode, ...(await resolveOwner(config)), ...(prepare && { prepare }) })
}

/**
 * Follows links that stand in the file's place. A link that leads nowhere yet leads to the file to be made. Rejects as
 * {@link openTarget} does.
 */
export async function locateFile(file: string): Promise<string> {
  let path = file
  for (let links = 0; links <= MAX_LINKS; links++) {
    const folder = await realpath(dirname(path)).catch((error) => {
      throw new GmsaError('CONFIG_INVALID', `${file}: its folder can't be found (${error.code})`, {
        hint: 'make the folder first: the agent makes none, since it would not know its owner',
      })
    })
    path = join(folder, basename(path))
    const found = await lstat(path).catch(() => undefined)
    if (found?.isSymbolicLink()) {
      path = resolve(folder, await readlink(path))
      continue
    }
    if (found && !found.isFile())
      throw new GmsaError('CONFIG_INVALID', `${file}: something else than a file stands there`)
    if (found && (await isMountPoint(path))) {
      throw new GmsaError('CONFIG_INVALID', `${file}: a mount of this single file, which can't be replaced`, {
        hint: 'mount its folder: a replaced file is another one, and a mount goes on showing the old one',
      })
    }
    return path
  }
  throw new GmsaError('CONFIG_INVALID', `${file}: too many links`)
}

/** Linux says where mounts are (proc(5), mountinfo: the fifth field, white space as octal escapes); elsewhere: no. */
async function isMountPoint(path: string): Promise<boolean> {
  const mounts = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '')
  const written = path.replace(/[ \t\n\\]/g, (each) => `\\${each.charCodeAt(0).toString(8).padStart(3, '0')}`)
  return mounts.split('\n').some((line) => line.split(' ')[4] === written)
}

/** The file's contents, at most `most` bytes; undefined where there is none. Rejects with a GmsaError. */
export async function readBounded(
  path: string,
  most: number,
  wished: Omit<TargetOptions, 'file' | 'prepare'>,
): Promise<Found | undefined> {
  // Without O_NONBLOCK a named pipe would hold a thread until somebody writes to it.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error) => {
    if (error.code === 'ENOENT') return undefined
    throw fileError(`${path}: can't be read`, error)
  })
  if (!file) return undefined
  try {
    const { size, mode, uid, gid } = await file.stat()
    if (size > most) throw new GmsaError('MATERIAL_MALFORMED', `${path}: larger than ${most} bytes`)
    const asWished = (mode & 0o7777) === wished.mode && uid === (wished.uid ?? uid) && gid === (wished.gid ?? gid)
    return { bytes: await file.readFile(), asWished }
  } finally {
    await file.close()
  }
}

function describe(error: NodeJS.ErrnoException, { uid, gid }: TargetOptions): string {
  const wished = error.syscall === 'fchown' ? `, owner ${uid ?? 'as is'}, group ${gid ?? 'as is'}` : ''
  return `${error.code}${wished}`
}

function hintFor({ code, syscall }: NodeJS.ErrnoException): { hint?: string } {
  if (code === 'EROFS') return { hint: 'it is on a read-only volume, such as a Kubernetes Secret: use an emptyDir' }
  if (syscall === 'fchown')
    return { hint: 'only root gives files away; others may give a group they are in, or make the folder setgid' }
  if (code === 'EACCES' || code === 'EPERM') return { hint: 'the agent must be able to make files in this folder' }
  return {}
}

/** As the stores have it: what permission denies somebody must mend, all else may pass. */
function fileError(what: string, error: NodeJS.ErrnoException): GmsaError {
  const { code = 'unknown error' } = error
  const denied = ['EACCES', 'EPERM', 'EROFS'].includes(code)
  return new GmsaError(denied ? 'STORE_DENIED' : 'STORE_UNAVAILABLE', `${what} (${code})`, { cause: error })
}
