import { constants } from 'node:fs'
import { type FileHandle, open, readFile, readlink, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { GmsaError } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'

/** More than any credential, keytab or blob needs; a larger file is refused before it is read. */
const MAX_BYTES = 1024 * 1024

const READABLE_BY_OTHERS = 0o077

/** Reads the files of one folder, under the rules for files that hold secrets. */
export class SecretFiles {
  readonly directory: string
  readonly #allowReadable: boolean
  readonly #log: Log
  readonly #warned = new Set<string>()

  constructor(directory: string, allowReadable: boolean, log: Log) {
    this.directory = directory
    this.#allowReadable = allowReadable
    this.#log = log
  }

  /** Rejects with STORE_UNAVAILABLE or STORE_DENIED unless the folder is there and can be read. */
  async probe(): Promise<void> {
    try {
      const handle = await open(this.directory, constants.O_RDONLY | constants.O_DIRECTORY)
      await handle.close()
    } catch (error) {
      throw storeError(error, this.directory)
    }
  }

  /**
   * Where the members of the folder `name` are to be read from: the target of its `..data` link where it is a
   * Kubernetes volume, so that all members come from one version of it. Undefined when there is no such folder.
   */
  async snapshot(name: string): Promise<string[] | undefined> {
    const found = await stat(join(this.directory, name)).catch(absent)
    if (!found?.isDirectory()) return undefined
    const data = await readlink(join(this.directory, name, '..data')).catch(absent)
    return data === undefined ? [name] : [name, data]
  }

  /** The text of a file, UTF-8 and strict about it; undefined when there is none. */
  async read(segments: readonly string[], signal: AbortSignal): Promise<string | undefined> {
    const path = join(this.directory, ...segments)
    // Without O_NONBLOCK a named pipe would hold a thread until somebody writes to it.
    const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(absent)
    if (!handle) return undefined
    try {
      await this.#judge(handle, path)
      const bytes = await handle.readFile({ signal })
      return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    } catch (error) {
      if (error instanceof TypeError) throw new GmsaError('MATERIAL_MALFORMED', `${path} is not UTF-8 text`)
      throw error instanceof GmsaError ? error : storeError(error, path)
    } finally {
      await handle.close()
    }
  }

  async #judge(handle: FileHandle, path: string): Promise<void> {
    const found = await handle.stat()
    if (!found.isFile()) throw new GmsaError('MATERIAL_MALFORMED', `${path} is not a regular file`)
    if (found.size > MAX_BYTES) throw new GmsaError('MATERIAL_MALFORMED', `${path} is larger than ${MAX_BYTES} bytes`)
    if (this.#allowReadable || process.platform === 'win32' || (found.mode & READABLE_BY_OTHERS) === 0) return
    if (await isVolume(path)) return this.#warnOnce(path)
    throw new GmsaError('STORE_DENIED', `${path} can be read or written by group or others`, {
      reason: 'not-permitted',
      hint: `chmod 600 ${path}, or set allowReadable: true for this provider`,
    })
  }

  #warnOnce(path: string): void {
    if (this.#warned.size >= 1000 || this.#warned.has(path)) return
    this.#warned.add(path)
    this.#log.warn(
      { path },
      'secret file can be read by group or others; taken, as the volume it is on is read-only or in memory',
    )
  }
}

/** Absence is no error here: the caller decides what it means. A missing folder above is told apart by probe(). */
function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR' || error.code === 'EINVAL') return undefined
  throw storeError(error, 'secret file')
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

/** Whether the file lies on a read-only or in-memory mount, as Kubernetes mounts Secrets. Linux only. */
async function isVolume(path: string): Promise<boolean> {
  const [real, mounts] = await Promise.all([realpath(path), readFile('/proc/self/mountinfo', 'utf8').catch(() => '')])
  let best: { point: string; volume: boolean } | undefined
  for (const line of mounts.split('\n')) {
    // proc(5): id parent major:minor root point options … - type source super-options
    const [head = '', tail = ''] = line.split(' - ')
    const [, , , , point = '', options = ''] = head.split(' ')
    const mountPoint = point.replace(/\\([0-7]{3})/g, (_, octal: string) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    )
    const inside = real === mountPoint || real.startsWith(mountPoint === '/' ? '/' : `${mountPoint}/`)
    if (!inside || (best && best.point.length > mountPoint.length)) continue
    const type = tail.split(' ')[0] ?? ''
    best = { point: mountPoint, volume: options.split(',').includes('ro') || type === 'tmpfs' || type === 'ramfs' }
  }
  return best?.volume ?? false
}
