import { type FSWatcher, statSync, watch } from 'node:fs'
import { dirname } from 'node:path'
import type { Clock } from './clock.ts'

export interface WatchOptions {
  readonly clock: Clock
  /** Events closer together than this many milliseconds give one call: writers touch several files at once. */
  readonly settle?: number
  /** A call at least this often in milliseconds, for file systems that send no events. Absent: events only. */
  readonly poll?: number
}

/**
 * Calls `look` when something may have changed in one of these folders; the caller compares for itself.
 *
 * Folders, not files: Kubernetes updates a volume by swapping the `..data` link in it, and a watch on a file dies with
 * its old inode. A folder that is missing or was replaced is taken up again at the next poll.
 */
export function watchDirectories(directories: readonly string[], look: () => void, options: WatchOptions): Disposable {
  const { clock, settle = 50, poll } = options
  const watches = [...new Set(directories)].map((directory) => new DirectoryWatch(directory, schedule))
  let pending: Disposable | undefined
  const timer = poll === undefined ? undefined : clock.every(poll, rearmAndLook)

  function schedule(): void {
    pending ??= clock.after(settle, () => {
      pending = undefined
      look()
    })
  }

  function rearmAndLook(): void {
    for (const each of watches) each.rearm()
    schedule()
  }

  return {
    [Symbol.dispose]() {
      timer?.[Symbol.dispose]()
      pending?.[Symbol.dispose]()
      for (const each of watches) each.close()
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
  #inode: number | undefined

  constructor(directory: string, changed: () => void) {
    this.#directory = directory
    this.#changed = changed
    this.rearm()
  }

  rearm(): void {
    const inode = statSync(this.#directory, { throwIfNoEntry: false })?.ino
    if (this.#watcher && inode === this.#inode) return
    this.close()
    if (inode === undefined) return
    try {
      const watcher = watch(this.#directory, { persistent: false }, this.#changed)
      watcher.on('error', () => this.close())
      this.#watcher = watcher
      this.#inode = inode
    } catch {
      // No watch to be had (inotify limit): the poll, or the age of what was read, has to do.
    }
  }

  close(): void {
    this.#watcher?.close()
    this.#watcher = undefined
  }
}
