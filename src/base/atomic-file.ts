import { randomBytes } from 'node:crypto'
import { chmod, type FileHandle, lstat, mkdir, open, readdir, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/** Whose a file is to be. What is left out stays as the system makes it. */
export interface FileOwner {
  readonly uid?: number
  readonly gid?: number
}

/** What chown(2) takes for "as it is". */
const UNCHANGED = -1

/**
 * Replaces the file at `path` by one with these bytes: a reader sees the old file or the new one, never a part.
 * Owner and mode hold, whatever the umask, before the name appears. The bytes and the rename are synced to disk.
 * Throws the file system's own error; nothing is left behind then.
 */
export async function writeFileAtomically(
  path: string,
  bytes: string | Uint8Array,
  mode = 0o600,
  owner: FileOwner = {},
): Promise<void> {
  await withTemporary(path, mode, owner, async (file, temporary) => {
    await file.writeFile(bytes)
    await file.sync()
    await file.close()
    await rename(temporary, path)
  })
  await syncDirectory(dirname(path))
}

/**
 * Throws what {@link writeFileAtomically} would throw before it replaces anything, and leaves nothing behind. Resolves
 * to the time on the file system's own clock, in ms since 1970, which may be another machine's.
 */
export async function tryToWrite(path: string, mode = 0o600, owner: FileOwner = {}): Promise<number> {
  return withTemporary(path, mode, owner, async (file, temporary) => {
    const { mtimeMs } = await file.stat()
    await file.close()
    await unlink(temporary)
    return mtimeMs
  })
}

/** Makes a file beside `path` for `use`, which closes it; removes it when that fails. */
async function withTemporary<T>(
  path: string,
  mode: number,
  { uid = UNCHANGED, gid = UNCHANGED }: FileOwner,
  use: (file: FileHandle, temporary: string) => Promise<T>,
): Promise<T> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`)
  // Nobody else may open it before it has its own mode: they would go on reading through that handle.
  const file = await open(temporary, 'wx', 0o600)
  try {
    if (uid !== UNCHANGED || gid !== UNCHANGED) await file.chown(uid, gid)
    await file.chmod(mode)
    return await use(file, temporary)
  } catch (error) {
    await file.close().catch(() => {})
    await unlinkQuietly(temporary)
    throw error
  }
}

/**
 * Removes what a process that was killed in {@link writeFileAtomically} left beside `path`: temporary files last
 * changed before `before`, in ms since 1970 on the file system's clock. Never rejects: what can't be removed stays.
 */
export async function removeAbandoned(path: string, before: number): Promise<void> {
  const directory = dirname(path)
  const pattern = new RegExp(`^\\.${RegExp.escape(basename(path))}\\.[0-9a-f]{12}\\.tmp$`)
  for (const name of await readdir(directory).catch(() => [])) {
    if (!pattern.test(name)) continue
    const found = await lstat(join(directory, name)).catch(() => undefined)
    if (found?.isFile() && found.mtimeMs < before) await unlinkQuietly(join(directory, name))
  }
}

/** Removes a file that may be gone already. Never rejects. */
export async function unlinkQuietly(path: string): Promise<void> {
  await unlink(path).catch(() => {})
}

/** Makes the folder and those above it where they are missing; `path` itself gets the mode, whatever the umask. */
export async function makePrivateDirectory(path: string, mode = 0o700): Promise<void> {
  await mkdir(path, { recursive: true, mode })
  await chmod(path, mode)
}

/**
 * A rename is durable once its folder is synced. The new file is in place by now, so that a folder we may not open for
 * reading, or a file system or a Windows that can't sync one, is no failure.
 */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r').catch(() => undefined)
  try {
    await directory?.sync().catch(() => {})
  } finally {
    await directory?.close()
  }
}
