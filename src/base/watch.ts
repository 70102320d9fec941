import { type FSWatcher, statSync, watch } from 'node:fs'
import { basename, dirname } from 'node:path'
import type { Clock } from './clock.ts'

export interface WatchOptions {
  readonly clock: Clock
  /** Events closer together than this many milliseconds give one call: writers touch several files at once. */
  readonly settle?: number
  /** A call at least this often in milliseconds, for file systems that send no events. Absent: on change only. */
  readonly poll?: number
}

/** How often in ms to ask for folders that came, went or were replaced, where no `poll` says so. */
const REARM = 10_000

/**
 * Calls `look` when something may have changed in one of these folders; the caller compares for itself. A function
 * is asked again whenever something changed, so that the set of folders may grow and shrink.
 *
 * Folders, not files: Kubernetes updates a volume by swapping the `..data` link in it, and a watch on a file dies with
 * its old inode. A folder that is missing or was replaced is taken up again at the next poll at the latest.
 */
export function watchDirectories(
  directories: readonly string[] | (() => readonly string[]),
  look: () => void,
  options: WatchOptions,
): Disposable {
  const { clock, settle = 50, poll } = options
  const watches = new Map<string, DirectoryWatch>()
  let pending: Disposable | undefined
  rearm()
  const timer = clock.every(poll ?? REARM, () => {
    const moved = rearm()
    if (moved || poll !== undefined) schedule()
  })

  function schedule(): void {
    pending ??= clock.after(settle, () => {
      pending = undefined
      rearm()
      look()
    })
  }

  /** Whether any folder came, went or was replaced: whatever happened in it meanwhile was not seen. */
  function rearm(): boolean {
    const wanted = new Set(typeof directories === 'function' ? directories() : directories)
    let moved = false
    for (const [directory, each] of watches) {
      if (wanted.has(directory)) continue
      each.close()
      watches.delete(directory)
      moved = true
    }
    for (const directory of wanted) {
      const each = watches.get(directory) ?? new DirectoryWatch(directory, schedule)
      watches.set(directory, each)
      if (each.rearm()) moved = true
    }
    return moved
  }

  return {
    [Symbol.dispose]() {
      timer[Symbol.dispose]()
      pending?.[Symbol.dispose]()
      for (const each of watches.values()) each.close()
    },
  }
}

/** {@link watchDirectories} over the folders that these files stand in. */
export function watchFiles(files: readonly string[], look: () => void, options: WatchOptions): Disposable {
  return watchDirectories(files.map(dirname), look, options)
}

class DirectoryWatch {
  readonly #directory: string
  readonly #changed: () => void
  #watcher: FSWatcher | undefined
  /** Which folder is watched: device and inode. A mount over it keeps the inode number, often 1 or 2. */
  #identity: string | undefined

  constructor(directory: string, changed: () => void) {
    this.#directory = directory
    this.#changed = changed
  }

  /** Watches the folder that is there now. Whether it is another one than before, or came or went. */
  rearm(): boolean {
    const identity = identityOf(this.#directory)
    if (this.#watcher && identity === this.#identity) return false
    const moved = this.#watcher !== undefined || identity !== this.#identity
    this.close()
    this.#identity = identity
    if (identity === undefined) return moved
    try {
      const watcher = watch(this.#directory, { persistent: false }, (_event, name) => {
        // The folder itself was moved or deleted. The next one may get the same inode: the number proves nothing.
        if (name === basename(this.#directory)) this.close()
        this.#changed()
      })
      watcher.on('error', () => this.close())
      this.#watcher = watcher
      return true
    } catch {
      // No watch to be had (inotify limit): the poll, or the age of what was read, has to do.
      return moved
    }
  }

  close(): void {
    this.#watcher?.close()
    this.#watcher = undefined
  }
}

function identityOf(directory: string): string | undefined {
  try {
    const found = statSync(directory, { bigint: true, throwIfNoEntry: false })
    return found && `${found.dev}:${found.ino}`
  } catch {
    return undefined
  }
}
