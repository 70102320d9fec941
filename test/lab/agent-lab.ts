import { randomBytes } from 'node:crypto'
import { chmod, copyFile, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect } from 'vitest'
import { type Agent, startAgent } from '../../src/agent/agent.ts'
import type { OutputConfig } from '../../src/agent/config.ts'
import { parseKeytab } from '../../src/kerberos/keytab.ts'
import { kvnosOf } from '../fakes/agent-rig.ts'
import { keepingLog, type LogLine, type Rig } from '../fakes/rig.ts'
import { makeDirectoryRig, nextChange } from './directory-rig.ts'
import { type Domain, fakeTimeLibrary, startDomain } from './domain.ts'
import { type ShiftedClock, shiftedClock } from './shifted-clock.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE

/** A domain, the service over it, agents that keep files from it, and one clock for all, which tests move on. */
export interface AgentLab extends AsyncDisposable {
  readonly domain: Domain
  readonly rig: Rig
  readonly clock: ShiftedClock
  /** What the agents logged. */
  readonly lines: readonly LogLine[]
  /** A folder that other users can enter; removed at the end. */
  readonly folder: string
  path(name: string): string
  /** For a server: Kerberos of the domain, and the moved clock, which it follows while it runs. */
  environment(): Promise<NodeJS.ProcessEnv>
  /** Sets everybody's clock ahead of this machine's by so many ms; only ever forward. */
  moveTo(ahead: number): Promise<void>
  /** Starts an agent that keeps this file; resolves once it is right. Stopped with the lab at the latest. */
  keep(output: Pick<OutputConfig, 'kind' | 'file'> & Partial<OutputConfig>): Promise<Agent>
  /** Logs an ordinary user on; answers with the credential cache. */
  logOn(): Promise<string>
  /** By how many ms the clock is ahead when the password of web01$ changes next. */
  nextChange(): Promise<number>
  /**
   * From before a change of the password until half an hour after it: `enter` is told a credential cache, and has to
   * answer the same each time, with a ticket taken before the change and with a new one. Answers with what it did.
   */
  throughChange(agent: Agent, enter: (ccache: string) => Promise<string>): Promise<string>
}

/** Ask `needs('samba', 'krb5')` first. `ldif` changes the domain before anybody reads it. */
export async function startAgentLab({ ldif }: { ldif?: string } = {}): Promise<AgentLab> {
  const clock = shiftedClock()
  const domain = await startDomain()
  if (ldif) await domain.modify(ldif)
  const rig = await makeDirectoryRig(domain, clock)
  const { log, lines } = keepingLog()
  const agents: Agent[] = []
  const folder = await mkdtemp(join(tmpdir(), 'gmsa-agents-'))
  await chmod(folder, 0o755)
  const path = (name: string) => join(folder, name)
  const time = path('time')
  await mkdir(time)
  await copyFile(domain.env['KRB5_CONFIG'] ?? '', path('krb5.conf'))
  await chmod(path('krb5.conf'), 0o644)

  async function moveTo(ahead: number): Promise<void> {
    const seconds = Math.floor(ahead / SECOND)
    await domain.clock(`+${seconds}`)
    await writeFile(join(time, 'next'), `+${seconds}\n`, { mode: 0o644 })
    await rename(join(time, 'next'), join(time, 'clock'))
    clock.shiftTo(ahead)
  }
  await moveTo(0)

  async function logOn(): Promise<string> {
    const { code, stderr, ccache } = await domain.kinit(domain.ccg.username, domain.ccg.password)
    if (code !== 0 || stderr !== '') throw new Error(`kinit: ${stderr}`)
    return ccache
  }

  return {
    domain,
    rig,
    clock,
    lines,
    folder,
    path,
    moveTo,
    logOn,
    nextChange: () => nextChange(rig, clock),
    async environment() {
      return {
        PATH: process.env['PATH'] ?? '',
        KRB5_CONFIG: path('krb5.conf'),
        LD_PRELOAD: await fakeTimeLibrary(),
        FAKETIME_TIMESTAMP_FILE: join(time, 'clock'),
        FAKETIME_NO_CACHE: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
      }
    },
    async keep(output) {
      const { name = 'web01' } = output
      const defaults = { name, account: name, mode: 0o600, principals: [], keepPrevious: 10 * HOUR + 5 * MINUTE }
      const agent = await startAgent({
        config: {
          servers: [`https://localhost:${rig.service.port}`],
          tls: { ...rig.files.client, ca: rig.files.ca },
          timeout: 9 * SECOND,
          wait: 5 * MINUTE,
          checkInterval: HOUR,
          grace: 5 * MINUTE,
          krb5Config: path('krb5.conf'),
          outputs: [{ ...defaults, ...output }],
          disabled: new Map(),
        },
        clock,
        random: Math.random,
        randomBytes,
        log,
        version: '0.0.0-test',
        commit: 'none',
      })
      agents.push(agent)
      await agent.ready
      return agent
    },
    async throughChange(agent, enter) {
      const change = await nextChange(rig, clock)
      await moveTo(change - 20 * MINUTE)
      const before = await logOn()
      const first = await enter(before)
      const newest = async () => {
        const [{ file = '' } = {}] = agent.status().outputs
        return Math.max(...kvnosOf(parseKeytab(await readFile(file))))
      }
      const kvno = await newest()
      for (const minute of [-10, -4, -1, 0, 1, 3, 10, 30]) {
        await moveTo(change + minute * MINUTE)
        await pause(400)
        // Five minutes before the change the next key is there, which the first ticket after it needs.
        if (minute === -4) await expect.poll(newest, { timeout: 10_000 }).toBeGreaterThan(kvno)
        expect(await enter(before), `minute ${minute}, with a ticket of before`).toBe(first)
        expect(await enter(await logOn()), `minute ${minute}, with a new ticket`).toBe(first)
      }
      return first
    },
    async [Symbol.asyncDispose]() {
      for (const agent of agents) await agent.stop()
      await rig[Symbol.asyncDispose]()
      await domain[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
