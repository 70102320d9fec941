import type { Clock } from '../../base/clock.ts'
import { silentServer } from './causes.ts'
import type { Connection } from './connection.ts'

/**
 * How long in ms a connection is used after its log-on. A controller judges the rights of whoever logged on by the
 * groups of that moment: rights given or withdrawn since count from the next log-on.
 */
export const MAX_AGE = 60_000

export interface PoolOptions {
  readonly clock: Clock
  /** Connects and logs on; rejects, and closes what it opened, when that fails or takes too long. */
  open(server: string): Promise<Connection>
}

/** A connection for as long as a task uses it. */
export interface Lease {
  readonly connection: Connection
  /** How long ago it logged on, in ms. */
  age(): number
  /** Nobody new gets this connection: the next `use` logs on anew. Whoever uses it goes on with it. */
  retire(): void
}

/** One connection a server, shared by all who read at one time. */
export interface Pool extends Disposable {
  /**
   * Runs `task` on the server's connection, which is opened first where there is none. Where a connection that was
   * there before turns out to have ended, the task runs once more on a new one.
   */
  use<T>(server: string, task: (lease: Lease) => Promise<T>): Promise<T>
  /** Ends the server's connection at once: it does not answer. */
  drop(server: string): void
}

interface Entry {
  readonly ready: Promise<Connection>
  connection: Connection | undefined
  /** Monotonic time of the log-on. */
  since: number
  users: number
  /** Nobody new may use it; the last user closes it. */
  retired: boolean
  dropped: boolean
  timer: Disposable | undefined
}

export function connectionPool({ clock, open }: PoolOptions): Pool {
  const current = new Map<string, Entry>()
  let disposed = false

  function start(server: string): Entry {
    if (disposed) throw new Error('the provider was closed')
    const ready = open(server)
    const entry = newEntry(ready, clock.monotonic())
    current.set(server, entry)
    ready.then(
      (connection) => {
        entry.connection = connection
        entry.since = clock.monotonic()
        if (entry.dropped || (entry.retired && entry.users === 0)) return connection.close()
        entry.timer = clock.after(MAX_AGE, () => retire(server, entry))
      },
      () => forget(server, entry),
    )
    return entry
  }

  function forget(server: string, entry: Entry): void {
    if (current.get(server) === entry) current.delete(server)
    entry.timer?.[Symbol.dispose]()
  }

  function retire(server: string, entry: Entry): void {
    forget(server, entry)
    entry.retired = true
    if (entry.users === 0) entry.connection?.close()
  }

  function drop(server: string): void {
    const entry = current.get(server)
    if (!entry) return
    entry.dropped = true
    forget(server, entry)
    entry.connection?.close()
  }

  function usable(server: string): Entry | undefined {
    const entry = current.get(server)
    if (!entry?.connection || entry.connection.isOpen()) return entry
    forget(server, entry)
    return undefined
  }

  async function use<T>(server: string, task: (lease: Lease) => Promise<T>): Promise<T> {
    const before = usable(server)
    const entry = before ?? start(server)
    const reused = before?.connection !== undefined
    entry.users += 1
    try {
      const connection = await entry.ready
      const age = () => clock.monotonic() - entry.since
      return await task({ connection, age, retire: () => retire(server, entry) })
    } catch (error) {
      if (entry.dropped) throw silentServer(server, error)
      const lost = entry.connection?.isOpen() === false
      if (lost) forget(server, entry)
      if (!lost || !reused) throw error
    } finally {
      entry.users -= 1
      if (entry.retired && entry.users === 0) entry.connection?.close()
    }
    return use(server, task)
  }

  return {
    use,
    drop,
    [Symbol.dispose]() {
      disposed = true
      for (const server of [...current.keys()]) drop(server)
    },
  }
}

function newEntry(ready: Promise<Connection>, since: number): Entry {
  return { ready, connection: undefined, since, users: 0, retired: false, dropped: false, timer: undefined }
}
