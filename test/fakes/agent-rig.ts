import { createHook } from 'node:async_hooks'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause, setImmediate } from 'node:timers/promises'
import { type Agent, type AgentOptions, runOnce, startAgent } from '../../src/agent/agent.ts'
import type { AgentConfig, OutputConfig } from '../../src/agent/config.ts'
import type { ClientRule } from '../../src/broker/policy.ts'
import { rolloverOf } from '../../src/gmsa/cycle.ts'
import { type KeytabEntry, parseKeytab } from '../../src/kerberos/keytab.ts'
import { formatPrincipal } from '../../src/kerberos/principal.ts'
import { type MovableClock, movableClock } from './clock.ts'
import { type FakeDirectory, type FakeDirectoryOptions, fakeDirectory } from './directory.ts'
import { keepingLog, type LogLine, makeRig, type Rig, type RigOptions } from './rig.ts'

export const MINUTE = 60_000
export const HOUR = 60 * MINUTE
const CYCLE = 10 * HOUR
/** From one change to the next of accounts with an interval of one day. */
export const ROLLOVER = rolloverOf(1)
/** 1601-01-01 lies a whole number of cycles and so many ms before 1970. */
const PHASE = 11_644_473_600_000 % CYCLE
/** A change of the password not far ahead: the certificates of the tests are good then and for the hours after. */
export const CHANGE = Date.now() - ((Date.now() + PHASE) % CYCLE) + CYCLE

const ALL: ClientRule = { match: { commonName: '*' }, allow: ['keytab'], accounts: ['*'] }

export interface AgentRigOptions extends RigOptions {
  /** Ms before the change at which the clock stands first. Half an hour unless told. */
  readonly before?: number
  readonly directory?: Partial<FakeDirectoryOptions>
  /** Names of the gMSAs. */
  readonly accounts?: readonly string[]
  /** Several services over one directory. */
  readonly services?: number
}

/** The real service over a model of a directory, its clock in our hands, and agents that keep files from it. */
export interface AgentRig extends AsyncDisposable {
  readonly rig: Rig
  readonly rigs: readonly Rig[]
  readonly clock: MovableClock
  readonly directory: FakeDirectory
  /** Where the agent's files are; empty at first. */
  readonly folder: string
  readonly lines: LogLine[]
  path(name: string): string
  config(outputs: readonly Partial<OutputConfig>[], more?: Partial<AgentConfig>): AgentConfig
  options(config: AgentConfig): AgentOptions
  /** Starts an agent; it is stopped with the rig at the latest. */
  start(outputs: readonly Partial<OutputConfig>[], more?: Partial<AgentConfig>): Promise<Agent>
  once(outputs: readonly Partial<OutputConfig>[], more?: Partial<AgentConfig>): ReturnType<typeof runOnce>
  keytab(name: string): Promise<KeytabEntry[]>
  /** Lets time pass in steps small enough for requests to go to and fro in between. */
  advance(ms: number): Promise<void>
}

export async function makeAgentRig(options: AgentRigOptions = {}): Promise<AgentRig> {
  const { before = 30 * MINUTE, accounts = ['web01', 'sql01'], services = 1 } = options
  const clock = movableClock(CHANGE - before)
  const directory = fakeDirectory({ clock, created: CHANGE - 10 * ROLLOVER, kvno: 7, ...options.directory })
  const entry = { provider: 'ad', options: {} }
  const make = (more: RigOptions = {}) =>
    makeRig({
      clients: [ALL],
      clock,
      providers: new Map([['ad', directory.provider]]),
      ...options,
      ...more,
      config: { accounts: new Map(accounts.map((name) => [name, entry])), ...options.config },
    })
  const rig = await make()
  const others = await Promise.all(Array.from({ length: services - 1 }, () => make({ pki: rig.pki })))
  const rigs = [rig, ...others]
  const folder = join(rig.directory, 'agent')
  await mkdir(folder)
  const { log, lines } = keepingLog()
  const agents: Agent[] = []
  const path = (name: string) => join(folder, name)

  const config: AgentRig['config'] = (outputs, more = {}) => ({
    servers: rigs.map(({ service }) => `https://localhost:${service.port}`),
    tls: { ...rig.files.client, ca: rig.files.ca },
    // Requests take real time, and the clock of the tests may leap meanwhile.
    timeout: HOUR,
    wait: 300_000,
    checkInterval: HOUR,
    grace: 5 * MINUTE,
    outputs: outputs.map((output) => {
      const { name = 'web01', kind = 'acceptor' } = output
      const defaults = { mode: 0o600, principals: [], keepPrevious: 10 * HOUR + 5 * MINUTE }
      return { ...defaults, name, account: name, kind, file: path(`${name}-${kind}`), ...output }
    }),
    disabled: new Map(),
    ...more,
  })
  const agentOptions = (wanted: AgentConfig): AgentOptions => {
    return { config: wanted, clock, random: () => 0.5, randomBytes, log, version: '0.0.0-test', commit: 'none' }
  }
  return {
    rig,
    rigs,
    clock,
    directory,
    folder,
    lines,
    path,
    config,
    options: agentOptions,
    async start(outputs, more) {
      const agent = await startAgent(agentOptions(config(outputs, more)))
      agents.push(agent)
      return agent
    },
    once: (outputs, more) => runOnce(agentOptions(config(outputs, more))),
    keytab: async (name) => parseKeytab(await readFile(path(name))),
    async advance(ms) {
      for (let left = ms; left > 0; left -= MINUTE) {
        await clock.advance(Math.min(left, MINUTE))
        await settled(() => [lines, ...rigs.map((each) => each.lines)].map(({ length }) => length))
      }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(agents.map((agent) => agent.stop()))
      await Promise.all(rigs.map((each) => each[Symbol.asyncDispose]()))
    },
  }
}

/** Derivations of keys in the thread pool, which Node does not count among the active resources. */
const derivations = new Set<number>()
createHook({
  init: (id, type) => void (type === 'PBKDF2REQUEST' && derivations.add(id)),
  after: (id) => void derivations.delete(id),
}).enable()

/** What this process waits for: `FSReqPromise`, `GetAddrInfoReqWrap`, `TCPSocketWrap` and the like. */
const resources = () => process.getActiveResourcesInfo().filter((each) => !['Timeout', 'Immediate'].includes(each))
/** Whether the kernel or a thread has work that ends by itself; a thread may have to wait long for a processor. */
const isBusy = () => derivations.size > 0 || resources().some((each) => /Req|ConnectWrap/.test(each))

/**
 * Waits until nothing happens any more: no work under way, no socket opened or closed, nothing told. Where something
 * did, it takes longer to be sure: a handshake goes to and fro unseen, and the clock must not run on meanwhile.
 */
async function settled(told: () => readonly number[]): Promise<void> {
  const look = () => [...resources(), ...told()].join()
  let before = look()
  let needed = 2
  for (let quiet = 0, looks = 0; quiet < needed && looks < 1_000; looks++) {
    await pause(5)
    // However late the timer was, messages had their turns.
    for (let turn = 0; turn < 4; turn++) await setImmediate()
    const now = look()
    const calm = now === before && !isBusy()
    if (!calm) needed = 6
    quiet = calm ? quiet + 1 : 0
    before = now
  }
}

/** `HTTP/web01.ad.test@AD.TEST 7 18`: principal, kvno and enctype of each key, in the order of the file. */
export function keysOf(entries: readonly KeytabEntry[]): string[] {
  return entries.map(({ principal, kvno, enctype }) => `${formatPrincipal(principal)} ${kvno} ${enctype}`)
}

/** The key versions in a keytab, each once, in the order of the file. */
export function kvnosOf(entries: readonly KeytabEntry[]): number[] {
  return [...new Set(entries.map(({ kvno }) => kvno))]
}

/** Inode and time of last change of a file: those of another file are others. */
export async function identityOf(path: string): Promise<string> {
  const { ino, mtimeNs } = await stat(path, { bigint: true })
  return `${ino} ${mtimeNs}`
}

/** Whatever stands in the folder, hidden files too. */
export async function namesIn(folder: string): Promise<string[]> {
  return (await readdir(folder)).toSorted()
}
