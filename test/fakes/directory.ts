import type { Clock } from '../../src/base/clock.ts'
import { Secret } from '../../src/base/secret.ts'
import { nearestEdge, rolloverOf } from '../../src/gmsa/cycle.ts'
import { formatManagedPassword } from '../../src/gmsa/managed-password.ts'
import type { ManagedPassword } from '../../src/gmsa/material.ts'
import type { Provider } from '../../src/providers/provider.ts'

const MINUTE = 60_000
const WINDOW = 5 * MINUTE
const TICKS = 10_000n

export interface FakeDirectory {
  readonly provider: Provider
  /** Names of the accounts that were read. */
  readonly reads: string[]
  /** The password the directory takes at `time` by the calendar; -1, 0, 1, … count the changes since `created`. */
  passwordOf(generation: number): Buffer
  /** Which generation is in force by the calendar. */
  generationAt(time: number): number
  /** When a generation comes into force. */
  startOf(generation: number): number
  /** The kvno that the directory has stored for a generation; undefined where it never stored it. */
  kvnoOf(generation: number): number | undefined
  /** Somebody logs on, asks for a ticket or reads: what is due is rolled. */
  touch(): void
  /** Every read fails with this from now on; undefined: it works again. */
  fail(error: unknown): void
  /** Changes what it says of all accounts. */
  says(more: Partial<ManagedPassword['account']>): void
  announce(secret?: string): void
  /** From now on the kvno read is this. */
  pretendKvno(kvno: number | undefined): void
}

export interface FakeDirectoryOptions {
  readonly clock: Clock
  /** In ms since 1970. */
  readonly created: number
  /** Whether the account's first password came with a time long before, as the accounts of old domains. */
  readonly days?: number
  readonly kvno?: number
}

/**
 * A domain controller's answers for accounts that all have the same password, computed from the time as [MS-ADTS]
 * 3.1.1.4.5.39 has it, and with a kvno that grows lazily, when something touches the account.
 */
export function fakeDirectory({ clock, created, days = 1, kvno = 1 }: FakeDirectoryOptions): FakeDirectory {
  const rollover = rolloverOf(days)
  const first = floorEdge(created)
  const reads: string[] = []
  const watchers = new Set<(secret?: string) => void>()
  const stored = new Map<number, number>([[0, kvno]])
  let failure: unknown
  let more: Partial<ManagedPassword['account']> = {}
  let pretended: number | undefined

  const generationAt = (time: number) => Math.floor((time - first) / rollover)
  const startOf = (generation: number) => first + generation * rollover
  const passwordOf = (generation: number) => Buffer.alloc(256, `generation ${generation} of the password;`, 'utf16le')
  const secretOf = (generation: number) => new Secret(Uint8Array.from(passwordOf(generation)))

  /** The old and the new password are written together: two numbers where an interval was slept through. */
  function touch(): void {
    const now = generationAt(clock.now())
    const last = Math.max(...stored.keys())
    if (now <= last) return
    const number = stored.get(last) ?? 0
    if (now === last + 1) stored.set(now, number + 1)
    else stored.set(now - 1, number + 1).set(now, number + 2)
  }

  function blobNow(): Buffer {
    const now = clock.now()
    const generation = generationAt(now)
    const query = startOf(generation + 1) - now
    const inWindow = query <= WINDOW
    const hadOne = now - created >= rollover
    const [current, previous] = inWindow ? [generation + 1, generation] : [generation, generation - 1]
    return formatManagedPassword({
      current: secretOf(current),
      ...((inWindow || hadOne) && { previous: secretOf(previous) }),
      queryInterval: BigInt(query) * TICKS,
      unchangedInterval: BigInt(inWindow ? query + rollover - WINDOW : query - WINDOW) * TICKS,
    })
  }

  const provider: Provider = {
    name: 'ad',
    reads: {
      async 'managed-password'({ name }) {
        reads.push(name)
        if (failure !== undefined) throw failure
        touch()
        const value = pretended ?? stored.get(Math.max(...stored.keys())) ?? 0
        const now = clock.now()
        return {
          kind: 'managed-password',
          blob: new Secret(blobNow()),
          receivedAt: now,
          kvno: { value, readAt: now },
          account: {
            samAccountName: `${name}$`,
            domain: 'ad.test',
            sid: `S-1-5-21-1-2-3-${name.length}`,
            servicePrincipalNames: [`HTTP/${name}.ad.test`],
            supportedEnctypes: 24,
            managedPasswordInterval: days,
            ...more,
          },
          server: 'dc1.ad.test',
        }
      },
    },
    async probe() {
      if (failure !== undefined) throw failure
    },
    watch(changed) {
      watchers.add(changed)
      return { [Symbol.dispose]: () => void watchers.delete(changed) }
    },
    async [Symbol.asyncDispose]() {},
  }

  return {
    provider,
    reads,
    passwordOf,
    generationAt,
    startOf,
    kvnoOf: (generation) => stored.get(generation),
    touch,
    fail(error) {
      failure = error
    },
    says(account) {
      more = account
    },
    announce(secret) {
      for (const changed of watchers) changed(secret)
    },
    pretendKvno(value) {
      pretended = value
    },
  }
}

function floorEdge(time: number): number {
  const edge = nearestEdge(time)
  return edge <= time ? edge : edge - 36_000_000
}
