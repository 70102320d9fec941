import { GmsaError } from '../../src/base/errors.ts'
import type { Provider } from '../../src/providers/provider.ts'
import { fromRecords, type StoredRecord } from '../../src/providers/records.ts'

/** A store in memory that a test can fill, break, hold up and count. */
export interface MemoryStore {
  readonly provider: Provider
  /** Reads that reached the store, by the store's own name of the account. */
  readonly reads: string[]
  readonly probes: number
  /** Watches that nobody has ended. */
  readonly watches: number
  readonly closed: number
  put(secret: string, record: StoredRecord): void
  remove(secret: string): void
  /** Every read and probe fails with this from now on; undefined: it works again. */
  fail(error: unknown): void
  /** Reads and probes wait, for ever or until the signal ends them, until the function returned is called. */
  hold(options?: { readonly ignoreSignal?: boolean }): () => void
  /** Tells the watches. */
  announce(secret?: string): void
}

export const CREDENTIAL = { username: 'svc', password: 'correct horse', domainName: 'ad.test' }

/** Empty at first. With `watch: false` the provider can't announce changes. */
export function memoryStore(name = 'memory', { watch = true } = {}): MemoryStore {
  const records = new Map<string, StoredRecord>()
  const watchers = new Set<(secret?: string) => void>()
  const reads: string[] = []
  let failure: unknown
  let held: { readonly gate: Promise<void>; readonly ignoreSignal: boolean } | undefined
  let probes = 0
  let closed = 0

  async function answer(signal: AbortSignal): Promise<void> {
    if (held?.ignoreSignal) await held.gate
    else if (held) await Promise.race([held.gate, aborted(signal)])
    signal.throwIfAborted()
    if (failure !== undefined) throw failure
  }

  const provider = fromRecords(name, {
    async read({ secret }, signal) {
      reads.push(secret)
      const record = records.get(secret)
      await answer(signal)
      if (!record) throw new GmsaError('ACCOUNT_NOT_FOUND', 'no such record')
      return record
    },
    async probe(signal) {
      probes += 1
      await answer(signal)
    },
    ...(watch && {
      watch(changed: (secret?: string) => void) {
        watchers.add(changed)
        return { [Symbol.dispose]: () => void watchers.delete(changed) }
      },
    }),
    async close() {
      closed += 1
    },
  })

  function announce(secret?: string): void {
    for (const changed of watchers) changed(secret)
  }

  return {
    provider,
    reads,
    get probes() {
      return probes
    },
    get watches() {
      return watchers.size
    },
    get closed() {
      return closed
    },
    put: (secret, record) => void records.set(secret, record),
    remove: (secret) => void records.delete(secret),
    fail(error) {
      failure = error
    },
    hold({ ignoreSignal = false } = {}) {
      const { promise, resolve } = Promise.withResolvers<void>()
      held = { gate: promise, ignoreSignal }
      return () => {
        held = undefined
        resolve()
      }
    },
    announce,
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>()
  if (signal.aborted) reject(signal.reason)
  signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  return promise
}
