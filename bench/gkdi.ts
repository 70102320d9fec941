/** The part of `npm run bench -- --keys` that is about derivation from a KDS root key. Never a gate. */
import { randomBytes } from 'node:crypto'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Secret } from '../src/base/secret.ts'
import { deriveGmsaPassword, deriveSeedKey, GMSA_SECURITY_DESCRIPTOR } from '../src/crypto/gkdi.ts'
import { makeKeyDeriver } from '../src/gmsa/derive.ts'
import { startOfGkid } from '../src/gmsa/gkid.ts'
import { deriveOffline } from '../src/gmsa/offline.ts'
import type { KdsRootKey } from '../src/gmsa/root-key.ts'
import { scheduleKeys } from '../src/gmsa/schedule.ts'
import { parseSid } from '../src/gmsa/sid.ts'
import { ENCTYPES } from '../src/kerberos/enctype.ts'
import { median, spread, verdict } from './table.ts'

const REPETITIONS = 5
const WALKS = 1_000
const ACCOUNTS = 200
const WALK_AIM = 0.3
const REALM = 'CONTOSO.COM'
/** The longest way: both indices at 0, all 31 steps of each behind them. */
const FARTHEST = { l0: 365, l1: 0, l2: 0 }

const rootKey = (): KdsRootKey => ({
  id: '0040cb1e-b3ae-2f66-7335-a982b634b38f',
  hash: 'sha512',
  data: new Secret(Uint8Array.from(randomBytes(64))),
  createTime: 1n,
  useStartTime: 1n,
})

/** Milliseconds of this thread's processor time for one password from the root key down, at worst. */
function walk(): number {
  const root = { hash: 'sha512', rootKey: randomBytes(64), rootKeyId: randomBytes(16) } as const
  const sid = parseSid('S-1-5-21-1-2-3-1105')
  const before = process.threadCpuUsage()
  for (let times = 0; times < WALKS; times++) {
    const seedKey = deriveSeedKey(root, GMSA_SECURITY_DESCRIPTOR, FARTHEST)
    deriveGmsaPassword('sha512', seedKey, sid)
  }
  const { user, system } = process.threadCpuUsage(before)
  return (user + system) / 1000 / WALKS
}

/** Current and previous password of an account and their four AES keys, as a read and a keytab take them. */
async function deriveAccount(rid: number, keys: readonly KdsRootKey[]): Promise<void> {
  const change = startOfGkid(FARTHEST)
  const anchor = { gkid: { ...FARTHEST, l0: FARTHEST.l0 - 2 }, rootKeyId: keys[0]?.id ?? '' }
  const account = { sid: parseSid(`S-1-5-21-1-2-3-${rid}`), intervalDays: 1, passwordId: anchor }
  const { blob } = deriveOffline(account, keys, change)
  const now = Date.now()
  const reading = { blob, receivedAt: now, kvno: { value: 4, readAt: now - 60_000 }, jitter: 0 }
  const schedule = scheduleKeys({ reading, now, keepPrevious: 0 })
  const enctypes = ENCTYPES.filter(({ word }) => word === 'aes256' || word === 'aes128')
  const made = await makeKeyDeriver().deriveKeys(schedule, { realm: REALM, salt: `${REALM}host${rid}`, enctypes })
  if (made.keys.length !== 4) throw new Error(`${made.keys.length} keys instead of 4`)
}

/** Milliseconds for each of many accounts, one after the other, and by how much the event loop was late, p99 and at most. */
async function accounts(): Promise<readonly [each: number, p99: number, max: number]> {
  const keys = [rootKey()]
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const started = performance.now()
  for (let rid = 1_000; rid < 1_000 + ACCOUNTS; rid++) await deriveAccount(rid, keys)
  delay.disable()
  return [(performance.now() - started) / ACCOUNTS, delay.percentile(99) / 1e6, delay.max / 1e6]
}

/** Rows of the table that bench/derive.ts begins. */
export async function benchGkdi(): Promise<void> {
  walk()
  const walks = Array.from({ length: REPETITIONS }, walk)
  const found = verdict(median(walks), WALK_AIM)
  console.log(
    `| password from a root key by the longest way, ms of CPU | ${spread(walks, 3)} | < ${WALK_AIM} ms: ${found} |`,
  )
  const runs: (readonly [number, number, number])[] = []
  for (let times = 0; times < REPETITIONS; times++) runs.push(await accounts())
  const column = (index: 0 | 1 | 2, digits: number) =>
    spread(
      runs.map((each) => each[index]),
      digits,
    )
  console.log(`| account from a root key: two passwords, four AES keys, ms | ${column(0, 2)} | |`)
  console.log(`| event loop late meanwhile, p99 in ms | ${column(1, 1)} | ≤ 20 ms |`)
  console.log(`| the same, at most, ms | ${column(2, 1)} | |`)
}
