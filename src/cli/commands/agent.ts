import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { json } from 'node:stream/consumers'
import { Command, Option } from 'commander'
import { type Agent, type AgentOptions, type OnceResult, runOnce, startAgent } from '../../agent/agent.ts'
import type { AgentConfig } from '../../agent/config.ts'
import { notifyReady } from '../../agent/notify.ts'
import type { AgentStatus } from '../../agent/status.ts'
import { systemClock } from '../../base/clock.ts'
import { GmsaError } from '../../base/errors.ts'
import { silentLog } from '../../base/log.ts'
import { get } from '../../base/node-http.ts'
import { type LoadedAgent, readAgentConfig } from '../agent-config.ts'
import { type AgentFlags, loadAgent } from '../agent-flags.ts'
import { problemsError } from '../config-problem.ts'
import { printFindings } from '../findings.ts'
import { openProcessLog, type ProcessLog } from '../logger.ts'
import { print, printError } from '../print.ts'
import { endingBySignal } from '../signals.ts'
import { formatTable } from '../table.ts'
import { buildInfo } from '../version.ts'
import { leaseCommand } from './agent-lease.ts'

interface KeepFlags extends AgentFlags {
  readonly once?: boolean
}

/** `agent`, `agent --once` and the commands below it. */
export function agentCommand(): Command {
  const command = new AgentCommand('agent')
    .description('keep keytabs fresh from a running service')
    .option('--config <file>', 'configuration file for any number of accounts')
    .option('--once', 'bring every file up to date, then end')
    .option('--server <url>', 'the service; may be repeated', (url, all: string[]) => [...all, url], [])
    .option('--cert <file>', 'client certificate, PEM')
    .option('--key <file>', 'its private key, PEM')
    .option('--ca <file>', "the CA of the service's certificate, PEM")
    .option('--account <name>', 'the one account to keep files for')
    .option('--acceptor-keytab <file>', 'keytab with which a service takes tickets')
    .option('--initiator-keytab <file>', 'keytab to log on with')
    .option('--ccache <file>', 'credential cache with a ticket-granting ticket of the account')
    .option('--on-change <command...>', 'program to run after a file has changed, with its arguments, without a shell')
    .action(async (flags: KeepFlags) => keep(await loadAgent(flags), flags))
  command
    .command('status')
    .description('show what a running agent says of its files; non-zero unless all of them can be relied on')
    .option('--config <file>', "the agent's configuration file")
    .addOption(new Option('--url <url>', 'where the agent listens; in place of a configuration file'))
    .option('--json', 'as JSON')
    // The outer command takes --config too, and sees it first.
    .action(async (_flags: StatusFlags, self: Command) => showStatus(self.optsWithGlobals()))
  command
    .command('check')
    .description('try all that an agent of this configuration needs, and write nothing; non-zero if any of it fails')
    .option('--config <file>', "the agent's configuration file")
    .option('--offline', 'ask neither the service nor a KDC')
    .option('--json', 'print the findings as JSON')
    .action(async (_flags: CheckFlags, self: Command) => check(self.optsWithGlobals()))
  command.addCommand(leaseCommand())
  return command
}

/** What follows `--on-change` is the program's own, dashes and all, up to the next flag that is ours. */
class AgentCommand extends Command {
  override parseOptions(args: string[]): ReturnType<Command['parseOptions']> {
    const start = args.indexOf('--on-change')
    if (start < 0) return super.parseOptions(args)
    const ours = this.options.map(({ long }) => long)
    const length = args.slice(start + 1).findIndex((each) => ours.includes(each.split('=')[0]))
    const end = length < 0 ? args.length : start + 1 + length
    const parsed = super.parseOptions([...args.slice(0, start), ...args.slice(end)])
    this.setOptionValueWithSource('onChange', args.slice(start + 1, end), 'cli')
    return parsed
  }
}

async function keep(loaded: LoadedAgent, { once = false }: KeepFlags): Promise<void> {
  const options = optionsFor(loaded.config)
  if (once) return keepOnce({ ...options, log: silentLog })
  const output = openProcessLog(loaded.logLevel, systemClock)
  try {
    await keepOn({ ...options, log: output.log }, output)
  } finally {
    output.flush()
  }
}

function optionsFor(config: AgentConfig): Omit<AgentOptions, 'log'> {
  const { KRB5_CONFIG: krb5Config } = process.env
  const completed = { ...config, ...(krb5Config && { krb5Config }) }
  return { config: completed, clock: systemClock, random: Math.random, randomBytes, ...buildInfo() }
}

/** Exit code 1 where a file could not be brought up to date, 78 where an account's configuration is wrong. */
async function keepOnce(options: AgentOptions): Promise<void> {
  for (const result of await staying(() => runOnce(options))) report(result)
  const wrong = [...options.config.disabled.values()].flat()
  for (const problem of wrong) printError(`gmsa-account-provider: error: ${problem}\n`)
  if (wrong.length > 0) process.exitCode = 78
}

/** The clock's timers alone would not keep the process alive. */
async function staying<T>(work: () => Promise<T>): Promise<T> {
  const alive = setInterval(() => {}, 0x7fffffff)
  return work().finally(() => clearInterval(alive))
}

function report({ output: { name, kind, file }, entries, kvno, error }: OnceResult): void {
  if (!error) {
    print(`${name} ${kind}: ${file}: ${entries} entries, kvno ${kvno}\n`)
    return
  }
  printError(`gmsa-account-provider: error: ${name} ${kind}: ${error.message}\n`)
  if (error.hint) printError(`gmsa-account-provider: hint: ${error.hint}\n`)
  process.exitCode = 1
}

async function keepOn(options: AgentOptions, output: ProcessLog): Promise<void> {
  const { log, config, version, commit } = options
  for (const [account, problems] of config.disabled) {
    log.error({ account, problems }, 'account left out: its configuration is wrong')
  }
  using ending = endingBySignal(output)
  // Our own handlers from the first moment on: without one SIGHUP ends a process, and SIGUSR1 opens it to debuggers.
  let agent: Agent | undefined
  const refresh = () => agent?.refresh()
  process.on('SIGHUP', refresh)
  process.on('SIGUSR1', refresh)
  agent = await startAgent(options)
  log.info({ files: config.outputs.length, status: agent.listening, version, commit }, 'keeping files')
  void agent.ready.then(async () => {
    log.info({}, 'every file is up to date')
    await notifyReady(process.env)
    options.clock.after(SETTLE, giveBackStart)
  })
  await ending.signalled
  await agent.stop()
  process.off('SIGHUP', refresh)
  process.off('SIGUSR1', refresh)
}

/** In ms: after the first answers the agent asks again, and these questions are held. */
const SETTLE = 3_000

/** At rest V8 collects nothing: what the start alone needed would stay. Only where Node was started with --expose-gc. */
function giveBackStart(): void {
  globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' })
}

interface CheckFlags extends AgentFlags {
  readonly offline?: boolean
  readonly json?: boolean
}

async function check({ offline = false, json = false, ...flags }: CheckFlags): Promise<void> {
  const { config } = await loadAgent(flags)
  const { checkAgent } = await import('../agent-check.ts')
  const findings = await staying(() => checkAgent(optionsFor(config), offline))
  printFindings(findings, json)
  if (findings.some(({ state }) => state === 'failed')) process.exitCode = 1
}

interface StatusFlags {
  readonly config?: string
  readonly url?: string
  readonly json?: boolean
}

const USUAL_URL = 'http://127.0.0.1:9465'
/** How long a running agent may take to answer, in ms. */
const STATUS_TIMEOUT = 5_000

async function showStatus({ config, url, json = false }: StatusFlags): Promise<void> {
  const status = await fetchStatus(url ?? (config === undefined ? USUAL_URL : await addressOf(config)))
  print(json ? `${JSON.stringify(status, null, 2)}\n` : tableOf(status))
  if (!status.ready) process.exitCode = 1
}

async function addressOf(file: string): Promise<string> {
  const loaded = await readAgentConfig(file, process.cwd())
  if (!loaded.ok) throw problemsError(loaded.problems)
  const { host = '127.0.0.1', port = 9465 } = loaded.config.status ?? {}
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}

async function fetchStatus(address: string): Promise<AgentStatus> {
  const url = URL.parse('/status', address)
  if (url?.protocol !== 'http:') throw new GmsaError('REQUEST_INVALID', '--url: expected http://HOST:PORT')
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  // Not by fetch, which needs WebAssembly: a pod's NODE_OPTIONS may say --jitless.
  get(url, { signal: AbortSignal.timeout(STATUS_TIMEOUT) }, resolve).on('error', reject)
  try {
    return (await json(await promise)) as AgentStatus
  } catch (error) {
    throw new GmsaError('STORE_UNAVAILABLE', `${url.host}: no agent answers`, {
      cause: error,
      hint: 'is it running, and does its log say that it has the port?',
    })
  }
}

function tableOf({ outputs, disabled }: AgentStatus): string {
  const rows = [
    ['account', 'kind', 'state', 'kvno', 'keys', 'last success', 'due', 'file'],
    ...outputs.map(({ account, kind, ready, kvno, entries, lastSuccess, refreshAt, file }) => {
      return [account, kind, ready ? 'ready' : 'not ready', kvno, entries, lastSuccess, refreshAt, file].map((each) =>
        String(each ?? '-'),
      )
    }),
    ...disabled.map(({ account }) => [account, '-', 'left out', '-', '-', '-', '-', '-']),
  ]
  const notes = [
    ...outputs.flatMap(({ account, kind, reason }) => (reason ? [`${account} ${kind}: ${reason}`] : [])),
    ...disabled.flatMap(({ problems }) => problems),
  ]
  return formatTable(rows) + notes.map((line) => `${line}\n`).join('')
}
