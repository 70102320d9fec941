import { type ChildProcess, fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { namesIn } from '../fakes/agent-rig.ts'
import type { Rig } from '../fakes/rig.ts'
import { configOf, filesIn } from '../lab/agent-forms.ts'
import { makeDirectoryRig, nextChange } from '../lab/directory-rig.ts'
import { type Domain, startDomain } from '../lab/domain.ts'
import { shiftedClock } from '../lab/shifted-clock.ts'
import { needs } from '../lab/skip.ts'
import { makeTickets, type Tickets } from '../lab/tickets.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const ROLLS = 3
const KILLS = 50
/** In minutes, on both sides of a change. */
const AROUND = 45

describe.skipIf(!needs('samba', 'krb5', 'gssapi'))('the files of an agent that is killed again and again', () => {
  const clock = shiftedClock()
  let domain: Domain
  let tickets: Tickets
  let rig: Rig
  let folder: string
  let agent: ChildProcess | undefined
  let kills = 0

  beforeAll(async () => {
    domain = await startDomain()
    tickets = makeTickets(domain, `HTTP/web01.${domain.dns}`)
    rig = await makeDirectoryRig(domain, clock)
    folder = join(domain.state, 'agent')
    await mkdir(folder)
    await startAgent()
  })
  afterAll(async () => {
    agent?.kill('SIGKILL')
    await rig[Symbol.asyncDispose]()
    await domain[Symbol.asyncDispose]()
  })

  const file = (kind: string) => join(folder, kind)

  /** Resolves once its files are right. */
  async function startAgent(): Promise<void> {
    const config = configOf(rig, 'web01', filesIn(folder))
    const script = join(import.meta.dirname, '../lab/agent-process.ts')
    const child = fork(script, [JSON.stringify(config), String(clock.ahead)], { stdio: 'inherit' })
    agent = child
    const { promise, resolve } = Promise.withResolvers<void>()
    child.once('message', () => resolve())
    child.once('exit', () => resolve())
    await promise
  }

  /** Kills it at a moment of its own choosing, and starts another one at once. */
  async function killAgent(): Promise<void> {
    kills += 1
    await pause(randomInt(120))
    agent?.kill('SIGKILL')
    void startAgent()
  }

  async function moveTo(ahead: number): Promise<void> {
    await domain.clock(`+${Math.floor(ahead / SECOND)}`)
    clock.shiftTo(ahead)
    if (agent?.connected) agent.send(ahead)
  }

  /** Moves on, perhaps kills the agent, and looks at its files as they are then. */
  async function look(ahead: number, kill: boolean): Promise<string[]> {
    await moveTo(ahead)
    if (kill) await killAgent()
    else await pause(150)
    return [...(await tickets.logOn(file('initiator'), 'web01$')), ...(await tickets.accept(file('acceptor')))]
  }

  test(`K4, K5, K11: log-on and tickets never fail through ${ROLLS} changes, with ${KILLS} kills`, async () => {
    const problems: string[] = []
    const note = (when: string, found: readonly string[]) => problems.push(...found.map((each) => `${when}: ${each}`))
    const steps = ROLLS * (2 * AROUND + 1)
    for (let roll = 1; roll <= ROLLS; roll++) {
      const change = await nextChange(rig, clock)
      for (let ahead = clock.ahead + HOUR; ahead < change - AROUND * MINUTE; ahead += HOUR) {
        await moveTo(ahead)
        await tickets.start()
        await tickets.take()
        note(`${(change - ahead) / HOUR} h before change ${roll}`, await look(ahead, false))
      }
      await moveTo(change - AROUND * MINUTE)
      await tickets.start()
      for (let minute = -AROUND; minute <= AROUND; minute++) {
        const done = (roll - 1) * (2 * AROUND + 1) + minute + AROUND
        // The kills are spread over the minutes, where in each is left to chance.
        const kill = kills < Math.ceil((KILLS * (done + 1)) / steps)
        note(`minute ${minute} of change ${roll}`, await look(change + minute * MINUTE, kill))
        if (minute % 15 === 0 || (Math.abs(minute) <= 6 && minute % 2 === 0)) await tickets.take()
      }
    }
    expect(problems).toEqual([])
    expect(kills).toBe(KILLS)
    // What killed ones left is removed by those that came after, once it is a minute old.
    const left = (await namesIn(folder)).filter((name) => name.endsWith('.tmp'))
    expect(left.length).toBeLessThan(KILLS)
  }, 1_500_000)
})
