import { constants } from 'node:fs'
import { type FileHandle, open, readFile, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { GmsaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'

/** More than any credential needs. Also a bound on the parser: YAML takes time with the square of the keys. */
const MAX_RECORD_BYTES = 64 * 1024

const READABLE_BY_OTHERS = 0o077

/** The real folders that a name stands for at one moment. Two that are equal speak of the same version. */
export interface Layout {
  /** Of the whole folder of secrets; undefined when it is missing. */
  readonly root: string | undefined
  /** Of the folder of that name; undefined when there is none. */
  readonly folder: string | undefined
}

/** Reads the files of one folder, under the rules for files that hold secrets. */
export class SecretFiles {
  readonly directory: string
  readonly #allowReadable: boolean
  readonly #log: Log
  readonly #maxBytes: number
  readonly #warned = new Set<string>()

  constructor(directory: string, allowReadable: boolean, log: Log, maxBytes = MAX_RECORD_BYTES) {
    this.directory = directory
    this.#allowReadable = allowReadable
    this.#log = log
    this.#maxBytes = maxBytes
  }

  /** Rejects with STORE_UNAVAILABLE or STORE_DENIED unless the folder is there and its files can be reached. */
  async probe(): Promise<void> {
    try {
      // Looking through the folder takes just the right that reading its files takes; `join` would drop the dot.
      await stat(`${this.directory}/.`)
    } catch (error) {
      throw storeError(error, this.directory)
    }
  }

  /**
   * Where the folder `name` and the whole lead to now, links followed: the target of `..data` where it is a Kubernetes
   * volume. Members read from such a folder come from one version of it, and a swap shows as another layout.
   */
  async layout(name: string): Promise<Layout> {
    const [root, folder] = await Promise.all([realFolder(this.directory), realFolder(join(this.directory, name))])
    return { root, folder }
  }

  /** The text of a file of `folder`, UTF-8 and strict about it; undefined when there is none. */
  async read(folder: string, file: string, signal: AbortSignal): Promise<string | undefined> {
    const bytes = await this.readBytes(folder, file, signal)
    return bytes && decodeUtf8(bytes, join(folder, file))
  }

  /** The bytes of a file of `folder`, for the caller to overwrite; undefined when there is none. */
  async readBytes(folder: string, file: string, signal: AbortSignal): Promise<Buffer | undefined> {
    signal.throwIfAborted()
    const path = join(folder, file)
    // Without O_NONBLOCK a named pipe would hold a thread until somebody writes to it.
    const flags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)
    const handle = await open(path, flags).catch((error) => absent(error, path))
    if (!handle) return undefined
    try {
      await this.#judge(handle, path)
      return await readBounded(handle, path, signal, this.#maxBytes)
    } catch (error) {
      signal.throwIfAborted()
      throw error instanceof GmsaError ? error : storeError(error, path)
    } finally {
      await handle.close()
    }
  }

  async #judge(handle: FileHandle, path: string): Promise<void> {
    const found = await handle.stat()
    if (!found.isFile()) throw new GmsaError('MATERIAL_MALFORMED', `${path} is not a regular file`)
    if (this.#allowReadable || process.platform === 'win32' || (found.mode & READABLE_BY_OTHERS) === 0) return
    const volume = await volumeOf(handle)
    if (volume !== undefined) return this.#warnOnce(volume, path)
    throw new GmsaError('STORE_DENIED', `${path} can be read or written by group or others`, {
      reason: 'not-permitted',
      hint: `chmod 600 ${path}, or set allowReadable: true for this provider`,
    })
  }

  /** Once a volume: the path of a file in it is another one after each swap. */
  #warnOnce(volume: string, path: string): void {
    if (this.#warned.has(volume)) return
    this.#warned.add(volume)
    this.#log.warn(
      { volume, path },
      'secret file can be read by group or others; taken, as the volume it is on is read-only or in memory',
    )
  }
}

async function realFolder(path: string): Promise<string | undefined> {
  const orAbsent = (error: NodeJS.ErrnoException) => absent(error, path)
  const real = (await realpath(join(path, '..data')).catch(orAbsent)) ?? (await realpath(path).catch(orAbsent))
  if (real === undefined) return undefined
  const found = await stat(real).catch(orAbsent)
  return found?.isDirectory() ? real : undefined
}

async function readBounded(handle: FileHandle, path: string, signal: AbortSignal, maxBytes: number): Promise<Buffer> {
  const buffer = Buffer.alloc(maxBytes + 1)
  let length = 0
  while (length <= maxBytes) {
    signal.throwIfAborted()
    const { bytesRead } = await handle.read(buffer, length, buffer.length - length)
    if (bytesRead === 0) return buffer.subarray(0, length)
    length += bytesRead
  }
  throw new GmsaError('MATERIAL_MALFORMED', `${path} is larger than ${maxBytes} bytes`)
}

/** The text of a file's bytes, without a byte order mark; wipes the bytes. Throws MATERIAL_MALFORMED. */
export function decodeUtf8(bytes: Buffer, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new GmsaError('MATERIAL_MALFORMED', `${path} is not UTF-8 text`)
  } finally {
    bytes.fill(0)
  }
}

/** What the system says where a path leads to nothing: a link too many, and a name longer than any file's, as well. */
const ABSENCES: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'])

/** Absence is no error here: the caller decides what it means. A missing folder above is told apart by probe(). */
function absent(error: NodeJS.ErrnoException, path: string): undefined {
  if (ABSENCES.has(error.code)) return undefined
  throw storeError(error, path)
}

function storeError(error: unknown, what: string): GmsaError {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error'
  if (code === 'EACCES' || code === 'EPERM') {
    return new GmsaError('STORE_DENIED', `${what}: permission denied`, {
      cause: error,
      reason: 'not-permitted',
      hint: 'give the user this service runs as read access, and nobody else',
    })
  }
  return new GmsaError('STORE_UNAVAILABLE', `${what}: ${code}`, { cause: error })
}

/**
 * Where the mount that the open file is on is mounted, if it is read-only or in memory, as Kubernetes mounts Secrets.
 * Linux alone says so (proc(5): `mnt_id` of fdinfo, mountinfo); elsewhere, and in doubt, undefined.
 * By the open file and not by its path: that may lead elsewhere by now.
 */
async function volumeOf(handle: FileHandle): Promise<string | undefined> {
  const [fdinfo, mounts] = await Promise.all(
    [`/proc/self/fdinfo/${handle.fd}`, '/proc/self/mountinfo'].map((path) => readFile(path, 'utf8').catch(() => '')),
  )
  const [, id] = /^mnt_id:\s*([0-9]+)$/m.exec(fdinfo ?? '') ?? []
  const line = mounts?.split('\n').find((each) => id !== undefined && each.startsWith(`${id} `)) ?? ''
  // id parent major:minor root point options … - type source super-options; blanks within are escaped
  const [head = '', tail = ''] = line.split(' - ')
  const [, , , , point, options = ''] = head.split(' ')
  const [type = '', , superOptions = ''] = tail.split(' ')
  const readOnly = [options, superOptions].some((each) => each.split(',').includes('ro'))
  return readOnly || type === 'tmpfs' || type === 'ramfs' ? point : undefined
}
