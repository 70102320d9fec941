import type { Clock } from '../base/clock.ts'
import { GmsaError } from '../base/errors.ts'

/** Requests of one client that may be held at a time. */
const MAX_PER_CLIENT = 4

export interface WaitOptions {
  /** Whose wait it is, for the limit. */
  readonly client: string
  /** In ms. */
  readonly timeout: number
  /** Ends it when the client goes away. */
  readonly signal: AbortSignal
  /** Calls back when there may be something new. */
  readonly onChange: (changed: () => void) => Disposable
  /** Looks whether there is; asked once at the start, too. Its rejection ends the wait. */
  readonly look: () => Promise<boolean>
}

/** Requests that are held until there is something new. */
export interface Waits {
  /** Resolves when there is something new, the time is up, the client has gone or the service stops. */
  hold(options: WaitOptions): Promise<void>
  /** Ends all waits, now and from now on: the service stops. */
  end(): void
  readonly ended: boolean
}

/** Rejects with RATE_LIMITED where a client has four requests held already. */
export function makeWaits(clock: Clock): Waits {
  const held = new Map<string, number>()
  const wakers = new Set<() => void>()
  let ended = false

  function enter(client: string): Disposable {
    const count = held.get(client) ?? 0
    if (count >= MAX_PER_CLIENT) {
      throw new GmsaError('RATE_LIMITED', `more than ${MAX_PER_CLIENT} requests held`, { retryAfter: 1 })
    }
    held.set(client, count + 1)
    return {
      [Symbol.dispose]() {
        const left = (held.get(client) ?? 1) - 1
        if (left > 0) held.set(client, left)
        else held.delete(client)
      },
    }
  }

  return {
    async hold({ client, timeout, signal, onChange, look }) {
      using _place = enter(client)
      let { promise, resolve: wake } = Promise.withResolvers<void>()
      const waker = () => wake()
      let over = false
      const end = () => {
        over = true
        wake()
      }
      wakers.add(waker)
      signal.addEventListener('abort', waker, { once: true })
      using _timer = clock.after(timeout, end)
      using _change = onChange(waker)
      try {
        while (!(await look()) && !over && !ended && !signal.aborted) {
          await promise
          ;({ promise, resolve: wake } = Promise.withResolvers<void>())
        }
      } finally {
        wakers.delete(waker)
        signal.removeEventListener('abort', waker)
      }
    },
    end() {
      ended = true
      for (const wake of wakers) wake()
    },
    get ended() {
      return ended
    },
  }
}
