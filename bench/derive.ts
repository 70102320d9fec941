/**
 * The part of npm run bench that `-- --keys` runs alone: how fast keys are derived, and how late the event loop runs while 200 accounts derive theirs.
 * Needs no server. Never a gate.
 */
import { randomBytes } from 'node:crypto'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Secret } from '../src/base/secret.ts'
import { makeKeyDeriver } from '../src/gmsa/derive.ts'
import type { Schedule } from '../src/gmsa/schedule.ts'
import { ENCTYPES, type Enctype } from '../src/kerberos/enctype.ts'
import { benchGkdi } from './gkdi.ts'
import { gmsadRate } from './gmsad.ts'
import { spread } from './table.ts'

const REPETITIONS = 5
const KEYS = 40
const ACCOUNTS = 200
const REALM = 'CONTOSO.COM'

/** A schedule with one password in force, and before it another: what an acceptor of a settled account holds. */
function sampleSchedule(): Schedule {
  const generation = (kvno: number, phase: 'current' | 'previous') => ({
    password: new Secret(randomBytes(256)),
    kvno: { value: kvno, from: 'directory' as const },
    phase,
  })
  const current = generation(2, 'current')
  const acceptor = [current, generation(1, 'previous')]
  const far = Number.MAX_SAFE_INTEGER
  const times = { queryDate: far, usableUntil: far, nextReadAt: far, clockAhead: 0 }
  return { generations: acceptor, acceptor, initiator: [current], notes: [], ...times }
}

async function derivePerSecond(enctype: Enctype): Promise<number> {
  const deriver = makeKeyDeriver()
  const started = performance.now()
  const work = Array.from({ length: KEYS / 2 }, () => {
    return deriver.deriveKeys(sampleSchedule(), {
      realm: REALM,
      salt: `${REALM}hostweb01.contoso.com`,
      enctypes: [enctype],
    })
  })
  await Promise.all(work)
  return KEYS / ((performance.now() - started) / 1000)
}

/** p99 and the most of the event loop's delay in ms, and the seconds it all took. */
async function delayWhileDeriving(
  enctypes: readonly Enctype[],
): Promise<readonly [p99: number, max: number, seconds: number]> {
  const deriver = makeKeyDeriver()
  const schedules = Array.from({ length: ACCOUNTS }, sampleSchedule)
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const started = performance.now()
  await Promise.all(
    schedules.map((each, n) => deriver.deriveKeys(each, { realm: REALM, salt: `${REALM}host${n}`, enctypes })),
  )
  delay.disable()
  return [delay.percentile(99) / 1e6, delay.max / 1e6, (performance.now() - started) / 1000]
}

async function printGmsad(enctype: 'aes256' | 'aes128'): Promise<void> {
  const rates: number[] = []
  let name = 'gmsad'
  for (let times = 0; times < REPETITIONS; times++) {
    const found = await gmsadRate(enctype)
    if (!found) return console.log(`| gmsad's ${enctype}, keys per second | not installed (GMSAD_PYTHON) | |`)
    name = `gmsad ${found.version}`
    rates.push(found.perSecond)
  }
  console.log(`| ${name}'s ${enctype}, one thread, keys per second | ${spread(rates)} | |`)
}

/** Runs it and prints a table. */
export async function benchKeys(): Promise<void> {
  console.log('| | min/median/max | aim |\n| --- | --- | --- |')
  for (const enctype of ENCTYPES) {
    const rates: number[] = []
    for (let times = 0; times < REPETITIONS; times++) rates.push(await derivePerSecond(enctype))
    console.log(`| ${enctype.name}, keys per second | ${spread(rates)} | |`)
  }
  for (const enctype of ['aes256', 'aes128'] as const) await printGmsad(enctype)
  const usual = ENCTYPES.filter(({ word }) => word === 'aes256' || word === 'aes128')
  const delays: (readonly [number, number, number])[] = []
  for (let times = 0; times < REPETITIONS; times++) delays.push(await delayWhileDeriving(usual))
  const column = (index: 0 | 1 | 2, digits: number) =>
    spread(
      delays.map((each) => each[index]),
      digits,
    )
  console.log(
    `| event loop late while ${ACCOUNTS} accounts derive 4 keys each, p99 in ms | ${column(0, 1)} | ≤ 20 ms |`,
  )
  console.log(`| the same, at most, ms | ${column(1, 1)} | |`)
  console.log(`| the same, seconds in all | ${column(2, 2)} | |`)
  await benchGkdi()
}
