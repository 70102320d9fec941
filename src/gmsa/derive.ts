import { availableParallelism } from 'node:os'
import { GmsaError } from '../base/errors.ts'
import { makeGate } from '../base/gate.ts'
import { Secret } from '../base/secret.ts'
import { aesSha1StringToKey, aesSha2StringToKey, ntHash } from '../crypto/string-to-key.ts'
import type { Enctype, EnctypeNumber } from '../kerberos/enctype.ts'
import type { KerberosKey, KerberosKeys } from '../kerberos/keys.ts'
import { utf16ToUtf8 } from './managed-password.ts'
import type { Schedule } from './schedule.ts'

/** A password's bytes to a key's; `salt` is UTF-8. */
type StringToKey = (utf16: Uint8Array, salt: Uint8Array) => Promise<Uint8Array>

const STRING_TO_KEY: Readonly<Record<EnctypeNumber, StringToKey>> = {
  17: (utf16, salt) => withUtf8(utf16, (password) => aesSha1StringToKey(16, password, salt)),
  18: (utf16, salt) => withUtf8(utf16, (password) => aesSha1StringToKey(32, password, salt)),
  19: (utf16, salt) => withUtf8(utf16, (password) => aesSha2StringToKey(16, password, salt)),
  20: (utf16, salt) => withUtf8(utf16, (password) => aesSha2StringToKey(32, password, salt)),
  // The NT hash takes the units as they are, without salt: UTF-8 would have lost the unpaired surrogates.
  23: async (utf16) => ntHash(utf16),
}

/** One key of a password, without any memory of it. `salt` is text; the caller owns the key. */
export function deriveKey(password: Secret, enctype: EnctypeNumber, salt: string): Promise<Uint8Array> {
  return STRING_TO_KEY[enctype](password.reveal(), Buffer.from(salt, 'utf8'))
}

async function withUtf8(utf16: Uint8Array, derive: (password: Uint8Array) => Promise<Buffer>): Promise<Buffer> {
  const utf8 = utf16ToUtf8(utf16)
  try {
    return await derive(utf8)
  } finally {
    utf8.fill(0)
  }
}

export interface KeyDeriverOptions {
  /**
   * How many keys are made at once. All of them share the thread pool with files and names, and the processor with
   * the event loop: so one less than there are cores, and at least one.
   */
  readonly concurrency?: number
  /** Called for each key that was really made, with the seconds it took. For metrics. */
  readonly onDerived?: (enctype: EnctypeNumber, seconds: number) => void
}

export interface DeriveOptions {
  readonly realm: string
  readonly salt: string
  readonly enctypes: readonly Enctype[]
}

/** Makes Kerberos keys of managed passwords, and each key once. */
export interface KeyDeriver {
  /**
   * The keys of everything an acceptor may hold by this schedule; those in force are marked `current`.
   * Rejects with KVNO_UNKNOWN where the password in force has no kvno, and with STORE_UNAVAILABLE where the schedule
   * has run out or does not show that password: the reading is too old, and a new one is needed.
   */
  deriveKeys(schedule: Schedule, options: DeriveOptions): Promise<KerberosKeys>
}

/**
 * A deriver with a memory: a key is found again by the very password object it was made of, which the schedule hands
 * on from reading to reading, and is forgotten with it. No digest of a secret is ever made or compared. Calls that
 * meet share one derivation.
 */
export function makeKeyDeriver(options: KeyDeriverOptions = {}): KeyDeriver {
  const { concurrency = Math.max(1, availableParallelism() - 1), onDerived } = options
  const made = new WeakMap<Secret, Map<string, Promise<Secret>>>()
  const enter = makeGate(concurrency)

  function keyOf(password: Secret, { number }: Enctype, salt: string): Promise<Secret> {
    const keys = made.get(password) ?? new Map<string, Promise<Secret>>()
    made.set(password, keys)
    const id = `${number} ${salt}`
    const known = keys.get(id)
    if (known) return known
    const key = enter(async () => {
      const started = performance.now()
      const bytes = await deriveKey(password, number, salt)
      onDerived?.(number, (performance.now() - started) / 1000)
      return new Secret(bytes)
    })
    keys.set(id, key)
    // A failure is not remembered; whoever asked sees it.
    key.catch(() => keys.delete(id))
    return key
  }

  return {
    async deriveKeys(schedule, { realm, salt, enctypes }) {
      const { acceptor, initiator, notes } = schedule
      if (initiator.length === 0) throw unusable(notes.includes('kvno-unknown'))
      const wanted = acceptor.flatMap((each) => enctypes.map((enctype) => ({ ...each, enctype })))
      const keys = await Promise.all(
        wanted.map(async ({ password, kvno, phase, start, enctype }): Promise<KerberosKey[]> => {
          const key = await keyOf(password, enctype, salt)
          if (!kvno) return []
          const named = { kvno: kvno.value, ...(kvno.from === 'prediction' && { predicted: true as const }) }
          return [{ ...named, enctype: enctype.number, key, phase, ...(start !== undefined && { start }) }]
        }),
      )
      return { kind: 'kerberos-keys', realm, salt, keys: keys.flat() }
    },
  }
}

function unusable(kvnoUnknown: boolean): GmsaError {
  return kvnoUnknown
    ? new GmsaError('KVNO_UNKNOWN', 'the kvno of the password in force is not known')
    : new GmsaError('STORE_UNAVAILABLE', 'what is known of the password is too old to hand out keys of it')
}
