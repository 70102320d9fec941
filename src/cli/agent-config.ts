import { resolve } from 'node:path'
import type { AgentConfig, HookConfig, OutputConfig, OutputKind, TicketConfig } from '../agent/config.ts'
import { parseDuration } from '../base/duration.ts'
import { type AccountEntry, type AgentFile, agentSchema, type HookEntry } from './agent-schema.ts'
import { checkTickets, placeOf } from './agent-tickets.ts'
import type { LogLevel } from './config.ts'
import { checkSchema } from './config-check.ts'
import { asRecord, isRecord, own } from './config-document.ts'
import { fillIn } from './config-fill.ts'
import { formatPath, formatProblem, Origins, type Path, type Problem, problemAt } from './config-problem.ts'
import { readSource, type Source } from './config-source.ts'

/** A configuration with which the agent can do something. */
export interface LoadedAgent {
  readonly config: AgentConfig
  readonly logLevel: LogLevel
}

export type AgentLoad =
  | ({ readonly ok: true } & LoadedAgent)
  | { readonly ok: false; readonly problems: readonly Problem[] }

/** Sections of an account, and what they are for. */
const KINDS: Readonly<Record<string, OutputKind>> = {
  acceptorKeytab: 'acceptor',
  initiatorKeytab: 'initiator',
  ccache: 'ccache',
}
/** The service holds a request no longer, in ms. */
const LONGEST_WAIT = 300_000
const LONGEST_TIMER_DAYS = 24

/** Reads and checks the agent's configuration file. Never rejects: what is wrong stands in `problems`. */
export async function readAgentConfig(file: string, cwd: string): Promise<AgentLoad> {
  return checkAgentConfig(await readSource(resolve(cwd, file)))
}

/** The same for a document made of flags; relative paths are relative to `cwd`. */
export function agentConfigOf(document: Readonly<Record<string, unknown>>, cwd: string): AgentLoad {
  return checkAgentConfig({ document, origins: new Origins({ source: 'flags', directory: cwd }), problems: [] })
}

/**
 * All problems at once. Those of an account disable that account alone, unless there is no other; a problem of any
 * other section is one of the whole.
 */
function checkAgentConfig({ document, origins, problems: before }: Source): AgentLoad {
  if (!isRecord(document)) {
    const expected = problemAt(origins.value([]), [], 'expected a mapping of servers, tls, accounts and so on')
    return { ok: false, problems: before.length > 0 ? before : [expected] }
  }
  const names = Object.keys(asRecord(document['accounts']))
  const schema = agentSchema(names)
  const completed = fillIn(document, schema, origins)
  const problems = [...before, ...checkSchema(document, schema, origins), ...checkRules(completed, origins)]
  const disabled = new Map(names.map((name) => [name, problems.filter((each) => isAbout(each, name))]))
  const ofAll = problems.filter((each) => !names.some((name) => isAbout(each, name)))
  const good = names.filter((name) => disabled.get(name)?.length === 0)
  if (ofAll.length > 0 || good.length === 0) return { ok: false, problems }
  // Nothing was found that speaks of the whole: but for `accounts` the document is what the schema describes.
  const file = completed as AgentFile
  const entries = asRecord(asRecord(completed)['accounts'])
  const outputs = good.flatMap((name) => outputsOf(name, own(entries, name) as AccountEntry, file.leases?.directory))
  return {
    ok: true,
    config: { ...toConfig(file, disabled, document['status'] !== undefined), outputs },
    logLevel: file.log.level ?? 'info',
  }
}

function isAbout({ path }: Problem, name: string): boolean {
  const start = formatPath(['accounts', name])
  return path === start || path.startsWith(`${start}.`) || path.startsWith(`${start}[`)
}

/** What a schema can't say. Whatever does not fit its schema is passed over here. */
function checkRules(document: unknown, origins: Origins): Problem[] {
  const problems: Problem[] = []
  const report = (path: Path, message: string) => problems.push(problemAt(origins.value(path), path, message))
  const root = asRecord(document)
  for (const name of ['timeout', 'wait', 'checkInterval', 'grace']) checkDuration(own(root, name), [name], report)
  if (own(root, 'timeout') === '0s') report(['timeout'], 'expected more than 0s')
  checkTickets(root, report)
  for (const [name, account] of Object.entries(asRecord(root['accounts']))) {
    const path = ['accounts', name]
    const kinds = Object.keys(KINDS).filter((kind) => own(asRecord(account), kind) !== undefined)
    if (isRecord(account) && kinds.length === 0)
      report(path, `expected at least one of ${Object.keys(KINDS).join(', ')}`)
    for (const kind of kinds) {
      const hook = own(asRecord(own(asRecord(account), kind)), 'onChange')
      if (hook !== undefined) checkHook(asRecord(hook), [...path, kind, 'onChange'], report)
    }
  }
  return problems
}

function checkHook(
  hook: Readonly<Record<string, unknown>>,
  path: Path,
  report: (path: Path, message: string) => void,
): void {
  const [command, signal, pidFile] = ['command', 'signal', 'pidFile'].map((name) => own(hook, name) !== undefined)
  const either = command ? !signal && !pidFile : signal && pidFile
  if (!either) report(path, 'expected either command, or signal and pidFile')
  checkDuration(own(hook, 'timeout'), [...path, 'timeout'], report)
}

function checkDuration(value: unknown, path: Path, report: (path: Path, message: string) => void): void {
  try {
    if (typeof value === 'string' && parseDuration(value) <= LONGEST_TIMER_DAYS * 86_400_000) return
  } catch {
    // The schema says that it is no duration.
    return
  }
  if (value !== undefined && typeof value === 'string') report(path, `longer than ${LONGEST_TIMER_DAYS} days`)
}

function outputsOf(
  name: string,
  { acceptorKeytab, initiatorKeytab, ccache, account = name }: AccountEntry,
  leases: string | undefined,
): OutputConfig[] {
  const shared = { name, account, principals: [], keepPrevious: 0 }
  const outputs: OutputConfig[] = []
  if (acceptorKeytab) {
    const { principals = [], keepPrevious = '10h5m' } = acceptorKeytab
    const kept = { principals, keepPrevious: parseDuration(keepPrevious) }
    outputs.push({ ...shared, ...fileOf(acceptorKeytab), ...kept, kind: 'acceptor' })
  }
  if (initiatorKeytab) outputs.push({ ...shared, ...fileOf(initiatorKeytab), kind: 'initiator' })
  if (ccache) {
    const { file, lease } = placeOf(ccache, account, leases)
    const kept = { ...fileOf({ ...ccache, file }), ...(lease && { lease }) }
    outputs.push({ ...shared, ...kept, ticket: ticketOf(ccache), kind: 'ccache' })
  }
  return outputs
}

function ticketOf({
  lifetime = '10h',
  renewLifetime,
  forwardable = false,
}: NonNullable<AccountEntry['ccache']>): TicketConfig {
  return {
    lifetime: parseDuration(lifetime),
    ...(renewLifetime !== undefined && { renewLifetime: parseDuration(renewLifetime) }),
    forwardable,
  }
}

type FileEntry = NonNullable<AccountEntry['initiatorKeytab']>

function fileOf({ file, mode = '0600', owner, group, onChange }: FileEntry) {
  const hook = onChange && hookOf(onChange)
  return {
    file,
    mode: Number.parseInt(mode, 8),
    ...(owner !== undefined && { owner: String(owner) }),
    ...(group !== undefined && { group: String(group) }),
    ...(hook && { onChange: hook }),
  }
}

function hookOf({ command, timeout = '30s', signal, pidFile }: HookEntry): HookConfig | undefined {
  const [program, ...args] = command ?? []
  if (program !== undefined) return { command: [program, ...args], timeout: parseDuration(timeout) }
  return signal && pidFile !== undefined ? { signal: `SIG${signal}`, pidFile } : undefined
}

function toConfig(
  { servers, tls, timeout, wait, checkInterval, grace, status, leases, textfile }: AgentFile,
  disabled: ReadonlyMap<string, readonly Problem[]>,
  statusGiven: boolean,
): Omit<AgentConfig, 'outputs'> {
  const wrong = [...disabled].filter(([, problems]) => problems.length > 0)
  return {
    servers,
    tls,
    timeout: parseDuration(timeout),
    wait: Math.min(parseDuration(wait), LONGEST_WAIT),
    checkInterval: parseDuration(checkInterval),
    grace: parseDuration(grace),
    status: { ...status, required: statusGiven },
    ...(leases && { leases: leases.directory }),
    ...(textfile !== undefined && { textfile }),
    disabled: new Map(wrong.map(([name, problems]) => [name, problems.map(formatProblem)])),
  }
}
