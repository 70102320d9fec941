import { createHash } from 'node:crypto'
import type { Clock } from '../base/clock.ts'
import { type Cause, connectionCause } from '../base/connection-causes.ts'
import { GmsaError } from '../base/errors.ts'
import { untilAborted } from '../base/until-aborted.ts'

/**
 * Loads a library that a slim installation is without. Rejects with CONFIG_INVALID that names the packages to add.
 * `load` is a dynamic import, so that nobody pays for a library whose store is not configured.
 */
export async function importSdk<T>(provider: string, packages: readonly string[], load: () => Promise<T>): Promise<T> {
  try {
    return await load()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ERR_MODULE_NOT_FOUND' && code !== 'MODULE_NOT_FOUND') throw error
    const names = packages.join(' ')
    throw new GmsaError('CONFIG_INVALID', `providers.${provider}: this installation is without ${names}`, {
      hint: `add it with npm install ${names}, or install without --omit=optional`,
    })
  }
}

/** What ended a connection, wherever in the chain of errors the library has put it. */
export function causeOf(thrown: unknown, depth = 5): Cause | undefined {
  if (typeof thrown !== 'object' || thrown === null || depth === 0) return undefined
  const { code, cause } = thrown as NodeJS.ErrnoException
  return (typeof code === 'string' ? connectionCause(code) : undefined) ?? causeOf(cause, depth - 1)
}

export interface ClientsOptions<C, M> {
  /** What a client is made of: asked before each call, so that files can change. Another answer means another client. */
  readonly material: (signal: AbortSignal) => Promise<M>
  readonly make: (material: M) => C
  readonly close: (client: C) => void
  /**
   * What helps against an error: `renew` where what the client shows of itself is no longer taken, `again` where the
   * client has learnt from the error.
   */
  readonly remedy: (error: unknown) => 'renew' | 'again' | undefined
  readonly clock: Pick<Clock, 'monotonic'>
}

/** The client of a library, made anew when what it is made of changes or the store no longer takes its credentials. */
export interface Clients<C> {
  /** Runs `work` with the client of now, and once more where there is a remedy for its error. Ends with the signal. */
  use<T>(signal: AbortSignal, work: (client: C) => Promise<T>): Promise<T>
  close(): void
}

interface Held<C> {
  readonly client: C
  /** Digest of what it was made of. */
  readonly of: string
  uses: number
}

/** A store that refuses us for good is not asked twice each time: new credentials are looked for no more often, in ms. */
const RENEWAL_PAUSE = 5_000

/**
 * Libraries keep credentials until the time they are said to end, by a wall clock that may be wrong, and some for ever:
 * only a new client looks again. An old one is closed when its last call has ended.
 */
export function renewableClients<C, M>(options: ClientsOptions<C, M>): Clients<C> {
  const { material, make, close, remedy, clock } = options
  const clients = new Set<Held<C>>()
  let current: Held<C> | undefined
  let renewedAt = Number.NEGATIVE_INFINITY

  async function hold(signal: AbortSignal): Promise<Held<C>> {
    const made = await material(signal)
    const of = createHash('sha256').update(JSON.stringify(made)).digest('base64')
    if (current?.of === of) return current
    retire()
    current = { client: make(made), of, uses: 0 }
    clients.add(current)
    return current
  }

  function retire(): void {
    const old = current
    current = undefined
    if (old) closeUnused(old)
  }

  function closeUnused(held: Held<C>): void {
    if (held === current || held.uses > 0 || !clients.delete(held)) return
    close(held.client)
  }

  async function run<T>(held: Held<C>, signal: AbortSignal, work: (client: C) => Promise<T>): Promise<T> {
    held.uses += 1
    try {
      signal.throwIfAborted()
      // Not every step of a library heeds the signal.
      return await untilAborted(work(held.client), signal)
    } catch (error) {
      if (held === current && remedy(error) === 'renew' && clock.monotonic() - renewedAt >= RENEWAL_PAUSE) {
        renewedAt = clock.monotonic()
        retire()
      }
      throw error
    } finally {
      held.uses -= 1
      closeUnused(held)
    }
  }

  return {
    async use(signal, work) {
      const held = await hold(signal)
      try {
        return await run(held, signal, work)
      } catch (error) {
        const helps = remedy(error)
        if (helps === undefined || (helps === 'renew' && held === current)) throw error
        return await run(await hold(signal), signal, work)
      }
    },
    close() {
      current = undefined
      for (const { client } of clients) close(client)
      clients.clear()
    },
  }
}
