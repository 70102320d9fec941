import { randomBytes } from 'node:crypto'
import { chmod, mkdir, open, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/**
 * Replaces the file at `path` by one with these bytes: a reader sees the old file or the new one, never a part.
 * The mode holds whatever the umask, before the name appears. The bytes and the rename are synced to disk.
 * Throws the file system's own error; nothing is left behind then.
 */
export async function writeFileAtomically(path: string, bytes: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`)
  const file = await open(temporary, 'wx', mode)
  try {
    try {
      await file.chmod(mode)
      await file.writeFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await unlink(temporary).catch(() => {})
    throw error
  }
  await syncDirectory(dirname(path))
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
