import type { Clock } from '../base/clock.ts'
import { type GmsaError, toGmsaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { CcacheContext } from './ccache-work.ts'
import type { AgentConfig, OutputConfig } from './config.ts'
import { makeHolds } from './holds.ts'
import { type IdentitySource, openIdentity } from './identity.ts'
import { KeytabFiles } from './keytab-files.ts'
import { type KeytabContext, KeytabWork } from './keytab-work.ts'
import { LeaseRecords } from './lease.ts'
import { type Metrics, makeAgentMetrics } from './metrics.ts'
import { Output, type Work } from './output.ts'
import { makeServiceClient } from './service-client.ts'
import { type AgentStatus, statusOf } from './status.ts'
import { openStatusServer, type StatusServer } from './status-server.ts'
import { openTextfile } from './textfile.ts'

export interface AgentOptions {
  readonly config: AgentConfig
  readonly clock: Clock
  /** From 0 to below 1. */
  readonly random: () => number
  readonly randomBytes: (length: number) => Uint8Array
  readonly log: Log
  readonly version: string
  readonly commit: string
}

/** An agent that runs. */
export interface Agent {
  status(): AgentStatus
  /** Where it tells of itself; absent where it does not. */
  readonly listening: { readonly host: string; readonly port: number } | undefined
  /** Resolves once every file has been brought up to date once. */
  readonly ready: Promise<void>
  /** Brings all files up to date now. */
  refresh(): void
  stop(): Promise<void>
}

/** What one output came to in a run that ends with it. */
export interface OnceResult {
  readonly output: OutputConfig
  readonly entries?: number
  readonly kvno?: number
  readonly error?: GmsaError
}

/** How often to look whether this machine slept or its clock was set, in ms, and what counts as that. */
const LOOK = 5_000
const JUMP = 30_000

/** Brings every file up to date once, all at the same time. Rejects with CONFIG_INVALID where there is nothing to do. */
export async function runOnce(options: AgentOptions): Promise<OnceResult[]> {
  const { outputs } = await prepare(options, () => {})
  return Promise.all(
    outputs.map(async (output): Promise<OnceResult> => {
      try {
        await output.once()
        const { entries, kvno } = output.state()
        return { output: output.config, ...(entries !== undefined && { entries }), ...(kvno !== undefined && { kvno }) }
      } catch (thrown) {
        return { output: output.config, error: toGmsaError(thrown) }
      }
    }),
  )
}

/** Starts keeping the files. Rejects with CONFIG_INVALID where none of them can be kept. */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const { config, clock, log } = options
  const { promise: ready, resolve: onReady } = Promise.withResolvers<void>()
  const { outputs, identity, metrics } = await prepare(options, () => {
    textfile?.changed()
    if (outputs.every((output) => output.state().lastSuccess !== undefined)) onReady()
  })
  await openOutputs(outputs, log)
  const status = () => statusOf({ outputs: outputs.map((output) => output.state()), config, now: clock.now() })
  const render = () => metrics.render(status(), identity.current)
  const server = config.status && (await openStatus(config.status, { status, render, log }))
  const textfile = config.textfile === undefined ? undefined : openTextfile(config.textfile, { render, clock, log })
  for (const output of outputs) output.start()
  const wakeAll = () => {
    for (const output of outputs) output.wake()
  }
  const jumps = watchForJumps(clock, () => {
    log.info({}, 'the clock was set or the machine slept: asking again')
    wakeAll()
  })
  return {
    status,
    listening: server,
    ready,
    refresh: wakeAll,
    async stop() {
      jumps[Symbol.dispose]()
      await Promise.all(outputs.map((output) => output.stop()))
      await textfile?.[Symbol.asyncDispose]()
      await server?.[Symbol.asyncDispose]()
    },
  }
}

async function openStatus(
  { required, ...address }: NonNullable<AgentConfig['status']>,
  { log, ...pages }: { status: () => AgentStatus; render: () => string; log: Log },
): Promise<StatusServer | undefined> {
  try {
    return await openStatusServer({ ...address, ...pages })
  } catch (thrown) {
    const { message } = toGmsaError(thrown)
    if (required) throw thrown
    log.warn({ problem: message }, 'no listener for status: another agent may have the usual port')
    return undefined
  }
}

interface Prepared {
  readonly outputs: readonly Output[]
  readonly identity: IdentitySource
  readonly metrics: Metrics
}

async function prepare(options: AgentOptions, onRound: () => void): Promise<Prepared> {
  const { config, clock, log, version, commit } = options
  const identity = openIdentity(config.tls, log)
  await identity.load()
  const metrics = makeAgentMetrics({ version, commit })
  const client = makeServiceClient({ ...config, identity: () => identity.load(), clock })
  const { wait, checkInterval, krb5Config } = config
  const books = { files: new KeytabFiles(), holds: makeHolds(), leases: new LeaseRecords(config.outputs) }
  const shared = { ...options, ...books, client, wait, checkInterval, krb5Config }
  const outputs = config.outputs.map(async (output) => {
    const work = await workOf(output, shared)
    return new Output({ ...options, config: output, work, onHookRun: metrics.hookRun, onRound })
  })
  return { outputs: await Promise.all(outputs), identity, metrics }
}

/** What Kerberos needs is loaded only where there is a ticket to get. */
async function workOf(config: OutputConfig, shared: KeytabContext & CcacheContext): Promise<Work> {
  const { kind } = config
  if (kind !== 'ccache') return new KeytabWork({ ...config, kind }, shared)
  const { CcacheWork } = await import('./ccache-work.ts')
  return new CcacheWork({ ...config, kind }, shared)
}

/** What can't be written is said at the start, and tried again; an agent that can write nothing does not start. */
async function openOutputs(outputs: readonly Output[], log: Log): Promise<void> {
  const opened = await Promise.all(outputs.map((output) => output.open().then(() => undefined, toGmsaError)))
  const errors = opened.filter((error) => error !== undefined)
  for (const { message, hint } of errors)
    log.error({ problem: message, ...(hint && { hint }) }, 'a file cannot be kept')
  const [first] = errors
  if (first && errors.length === outputs.length) throw first
}

/** Calls back when the two clocks part: timers do not count the time in which the machine sleeps. */
function watchForJumps(clock: Clock, jumped: () => void): Disposable {
  let ahead = clock.now() - clock.monotonic()
  return clock.every(LOOK, () => {
    const now = clock.now() - clock.monotonic()
    const moved = Math.abs(now - ahead)
    ahead = now
    if (moved > JUMP) jumped()
  })
}
