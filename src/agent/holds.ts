/** The service holds four requests of one client; the rest is for others with the same certificate. */
const PLACES = 2

/** Places for requests that the service holds until there is something new: without one, an output goes by the clock. */
export interface Holds {
  /** A place, given back when disposed; undefined where none is free. */
  take(): Disposable | undefined
  readonly free: number
}

export function makeHolds(places = PLACES): Holds {
  let free = places
  return {
    take() {
      if (free === 0) return undefined
      free -= 1
      return {
        [Symbol.dispose]() {
          free += 1
        },
      }
    },
    get free() {
      return free
    },
  }
}
