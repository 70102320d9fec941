import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { json } from 'node:stream/consumers'
import { Command, Option } from 'commander'
import { type Agent, type AgentOptions, type OnceResult, runOnce, startAgent } from '../../agent/agent.ts'
import { notifyReady } from '../../agent/notify.ts'
import type { AgentStatus } from '../../agent/status.ts'
import { systemClock } from '../../base/clock.ts'
import { GmsaError } from '../../base/errors.ts'
import { silentLog } from '../../base/log.ts'
import { get } from '../../base/node-http.ts'
import { agentConfigOf, type LoadedAgent, readAgentConfig } from '../agent-config.ts'
import { given } from '../config-document.ts'
import { problemsError } from '../config-problem.ts'
import { openProcessLog, type ProcessLog } from '../logger.ts'
import { endingBySignal } from '../signals.ts'
import { buildInfo } from '../version.ts'

interface AgentFlags {
  readonly config?: string
  readonly once?: boolean
  readonly server: readonly string[]
  readonly cert?: string
  readonly key?: string
  readonly ca?: string
  readonly account?: string
  readonly acceptorKeytab?: string
  readonly initiatorKeytab?: string
  readonly ccache?: string
  readonly onChange?: readonly string[]
}

const USUAL_PLACE = '/etc/gmsa-account-provider/agent.yaml'

/** `agent`, `agent --once` and `agent status`. */
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
    .action(async (flags: AgentFlags) => keep(await load(flags), flags))
  command
    .command('status')
    .description('show what a running agent says of its files; non-zero unless all of them can be relied on')
    .option('--config <file>', "the agent's configuration file")
    .addOption(new Option('--url <url>', 'where the agent listens; in place of a configuration file'))
    .option('--json', 'as JSON')
    // The outer command takes --config too, and sees it first.
    .action(async (_flags: StatusFlags, self: Command) => showStatus(self.optsWithGlobals()))
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

/** Throws CONFIG_INVALID with all problems. */
async function load(flags: AgentFlags): Promise<LoadedAgent> {
  const cwd = process.cwd()
  const single = flags.account !== undefined || flags.server.length > 0
  if (single && flags.config !== undefined) {
    throw new GmsaError('CONFIG_INVALID', '--config: all accounts stand in the file; leave out --server and --account')
  }
  const file = flags.config ?? (process.env['GMSA_AGENT_CONFIG'] || USUAL_PLACE)
  const loaded = single ? agentConfigOf(documentOf(flags), cwd) : await readAgentConfig(file, cwd)
  if (!loaded.ok) throw problemsError(loaded.problems)
  return loaded
}

/** The document that says the same as the flags. */
function documentOf(flags: AgentFlags): Readonly<Record<string, unknown>> {
  const { server: servers, cert: certificate, key, ca, account, onChange } = flags
  const { acceptorKeytab, initiatorKeytab, ccache } = flags
  const fileOf = (file: string | undefined) =>
    file === undefined ? undefined : given({ file, onChange: onChange && { command: onChange } })
  return {
    servers,
    tls: given({ certificate, key, ca }),
    accounts: {
      ...(account !== undefined && {
        [account]: given({
          acceptorKeytab: fileOf(acceptorKeytab),
          initiatorKeytab: fileOf(initiatorKeytab),
          ccache: fileOf(ccache),
        }),
      }),
    },
  }
}

async function keep(loaded: LoadedAgent, { once = false }: AgentFlags): Promise<void> {
  const { KRB5_CONFIG: krb5Config } = process.env
  const config = { ...loaded.config, ...(krb5Config && { krb5Config }) }
  const options = { config, clock: systemClock, random: Math.random, randomBytes, ...buildInfo() }
  if (once) return keepOnce({ ...options, log: silentLog })
  const output = openProcessLog(loaded.logLevel, systemClock)
  try {
    await keepOn({ ...options, log: output.log }, output)
  } finally {
    output.flush()
  }
}

/** Exit code 1 where a file could not be brought up to date, 78 where an account's configuration is wrong. */
async function keepOnce(options: AgentOptions): Promise<void> {
  // The clock's timers alone would not keep the process alive.
  const alive = setInterval(() => {}, 0x7fffffff)
  try {
    for (const result of await runOnce(options)) report(result)
  } finally {
    clearInterval(alive)
  }
  const wrong = [...options.config.disabled.values()].flat()
  for (const problem of wrong) process.stderr.write(`gmsa-account-provider: error: ${problem}\n`)
  if (wrong.length > 0) process.exitCode = 78
}

function report({ output: { name, kind, file }, entries, kvno, error }: OnceResult): void {
  if (!error) {
    process.stdout.write(`${name} ${kind}: ${file}: ${entries} entries, kvno ${kvno}\n`)
    return
  }
  process.stderr.write(`gmsa-account-provider: error: ${name} ${kind}: ${error.message}\n`)
  if (error.hint) process.stderr.write(`gmsa-account-provider: hint: ${error.hint}\n`)
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
  process.stdout.write(json ? `${JSON.stringify(status, null, 2)}\n` : tableOf(status))
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
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
  const notes = [
    ...outputs.flatMap(({ account, kind, reason }) => (reason ? [`${account} ${kind}: ${reason}`] : [])),
    ...disabled.flatMap(({ problems }) => problems),
  ]
  return [...lines, ...notes].map((line) => `${line}\n`).join('')
}
