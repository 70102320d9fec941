import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { AgentConfig, OutputConfig } from '../../src/agent/config.ts'
import type { AgentStatus } from '../../src/agent/status.ts'
import { CLI } from '../fakes/cli.ts'
import type { PkiFiles } from '../fakes/pki.ts'
import type { Rig } from '../fakes/rig.ts'
import { type DirectoryRigOptions, makeDirectoryRig } from './directory-rig.ts'
import type { Domain, Run } from './domain.ts'
import { shiftedClock } from './shifted-clock.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE

/** Later than this after its time, in ms, a question of the agent is overdue: it may ask up to ten seconds late. */
const LATE = 15 * SECOND
/** How long a running agent may take in all for what was due, in ms of real time. */
const PATIENCE = 30 * SECOND

/** A way to use the agent, with one account and with files and a service of its own. */
export interface AgentForm extends AsyncDisposable {
  readonly name: string
  /** The agent's acceptor keytab and its initiator keytab. */
  readonly files: AgentFiles
  /** Lets time pass, until the clock is so many ms ahead, and waits for what an agent does by itself then. */
  moveTo(ahead: number): Promise<void>
  /** The user runs it now, where that is how it is used. */
  use(ahead: number): Promise<void>
}

export interface AgentFiles {
  readonly acceptor: string
  readonly initiator: string
}

export interface FormOptions {
  readonly domain: Domain
  readonly account: string
  /** Where the files are to be. */
  readonly folder: string
  /** As the shell takes it. */
  readonly umask: string
  readonly pki: NonNullable<DirectoryRigOptions['pki']>
}

export const filesIn = (folder: string): AgentFiles => ({
  acceptor: join(folder, 'acceptor'),
  initiator: join(folder, 'initiator'),
})

/** An agent's configuration with both keytabs of one account, and the defaults of the product. */
export function configOf(rig: Rig, account: string, files: Partial<AgentFiles>): AgentConfig {
  const common = { name: account, account, mode: 0o600, principals: [], keepPrevious: 10 * HOUR + 5 * MINUTE }
  const kinds = ['acceptor', 'initiator'] as const
  return {
    servers: [addressOf(rig)],
    tls: { ...rig.files.client, ca: rig.files.ca },
    timeout: 9 * SECOND,
    wait: 5 * MINUTE,
    checkInterval: HOUR,
    grace: 5 * MINUTE,
    outputs: kinds.flatMap((kind): OutputConfig[] => {
      const { [kind]: file } = files
      return file === undefined ? [] : [{ ...common, kind, file }]
    }),
    disabled: new Map(),
  }
}

export const addressOf = (rig: Rig) => `https://localhost:${rig.service.port}`

const underUmask = (umask: string) => ['-c', `umask ${umask}; exec "$@"`, 'sh', process.execPath]

/** The command line of `agent` for both keytabs of an account, after `node`. */
export function agentArguments(
  { client: { certificate, key }, ca }: PkiFiles,
  account: string,
  files: AgentFiles,
  servers: readonly string[],
): string[] {
  const where = servers.flatMap((server) => ['--server', server])
  const identity = ['--cert', certificate, '--key', key, '--ca', ca, '--account', account]
  const outputs = ['--acceptor-keytab', files.acceptor, '--initiator-keytab', files.initiator]
  return [...CLI, 'agent', ...where, ...identity, ...outputs]
}

/** Runs `agent --once` by the domain's clock. */
export function runOnceUnder(domain: Domain, args: readonly string[], umask = '022', env = {}): Promise<Run> {
  return domain.run('sh', [...underUmask(umask), ...args], undefined, env)
}

/** `agent --once`, run each time by hand; the service is a new one each time too, and remembers nothing. */
export async function oneShotForm({ domain, account, folder, umask, pki }: FormOptions): Promise<AgentForm> {
  const files = filesIn(folder)
  return {
    name: 'one-shot',
    files,
    async moveTo() {},
    async use(ahead) {
      await using rig = await makeDirectoryRig(domain, shiftedClock(ahead), { accounts: [account], pki })
      const { code, stderr } = await runOnceUnder(
        domain,
        [...agentArguments(rig.files, account, files, [addressOf(rig)]), '--once'],
        umask,
      )
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    },
    async [Symbol.asyncDispose]() {},
  }
}

/** One agent that runs throughout, as a process of its own, beside one service. */
export async function runningForm({ domain, account, folder, umask, pki }: FormOptions): Promise<AgentForm> {
  const clock = shiftedClock()
  const files = filesIn(folder)
  const rig = await makeDirectoryRig(domain, clock, { accounts: [account], pki })
  const status = { host: '127.0.0.1', port: 0, required: true }
  // By the clock alone: a leap of the clock would leave a held question in the air until it ends by real time.
  const config = { ...configOf(rig, account, files), status, wait: 0 }
  const script = join(import.meta.dirname, 'agent-process.ts')
  const args = [...underUmask(umask), script, JSON.stringify(config), '0']
  const child = spawn('sh', args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const ended = once(child, 'exit')
  const [port] = await Promise.race([
    once(child, 'message'),
    ended.then(([code]) => expect.fail(`it ended with ${code}`)),
  ])

  /** The kinds that should have been asked for by now, and were not, or came to nothing. */
  async function overdue(): Promise<string[]> {
    const answer = await fetch(`http://127.0.0.1:${port}/status`, { signal: AbortSignal.timeout(5 * SECOND) })
    const { outputs } = (await answer.json()) as AgentStatus
    const late = clock.now() - LATE
    return outputs
      .filter(({ lastSuccess = '', refreshAt = '' }) => {
        const due = Math.min(Date.parse(refreshAt), Date.parse(lastSuccess) + config.checkInterval)
        return !(late < due)
      })
      .map(({ kind, reason = 'due' }) => `${kind}: ${reason}`)
  }

  return {
    name: 'running',
    files,
    async moveTo(ahead) {
      clock.shiftTo(ahead)
      child.send(ahead)
      await expect.poll(overdue, { timeout: PATIENCE, interval: 50 }).toEqual([])
    },
    async use() {},
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL')
      await ended
      await rig[Symbol.asyncDispose]()
    },
  }
}
