import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { isAbsolute, join, resolve } from 'node:path'
import { parseDuration } from '../base/duration.ts'
import { GmsaError } from '../base/errors.ts'
import type { ClientRule } from '../broker/policy.ts'
import type { ProviderType } from '../providers/define.ts'
import { PROVIDER_TYPES } from '../providers/index.ts'
import { checkSchema } from './config-check.ts'
import { isRecord } from './config-document.ts'
import { applyOverrides, environmentOverrides, type Override } from './config-environment.ts'
import { fillIn } from './config-fill.ts'
import { formatProblem, Origins, type Problem, problemAt } from './config-problem.ts'
import { checkRules, findOddities, reservedAccounts } from './config-rules.ts'
import { type ConfigFile, schemaOf } from './config-schema.ts'
import { readSource, type Source } from './config-source.ts'

/** The configuration as used: defaults filled in, paths absolute, durations in milliseconds. */
export interface Config {
  readonly listen: { readonly hosts: readonly string[]; readonly port: number }
  readonly admin: {
    readonly host: string
    readonly port: number
    readonly statusPage: 'loopback' | boolean
    /** Only in Rancher mode: another port where this one is taken. */
    readonly orAnyPort?: boolean
  }
  /** Absent only in Rancher mode with --disable-mtls. */
  readonly tls?: TlsConfig
  readonly providers: ReadonlyMap<string, ProviderConfig>
  /** May hold `*`, which stands for every name not listed. */
  readonly accounts: ReadonlyMap<string, AccountConfig>
  /** Absent: a verified certificate may read `credential` of the accounts named in `accounts`. */
  readonly clients?: readonly ClientRule[]
  /** Only in Rancher mode: whoever gets in may read `credential` of every account, those behind `*` too. */
  readonly openAccounts: boolean
  readonly ccg?: CcgConfig
  /** Accounts that another provider logs on with: without `clients` nobody may read them. */
  readonly reservedAccounts: ReadonlySet<string>
  readonly cache: { readonly maxAge: number; readonly serveStale: number }
  /** How long a key is kept after it left force, in ms. */
  readonly keys: { readonly keepPrevious: number }
  readonly timeouts: { readonly store: number; readonly request: number }
  readonly shutdown: { readonly drainDelay: number; readonly grace: number }
  readonly limits: { readonly requestsPerSecond: number }
  readonly log: { readonly level: LogLevel }
}

export type LogLevel = 'error' | 'warn' | 'info' | 'debug' | 'trace'

/** Paths of PEM files. */
export interface TlsConfig {
  readonly certificate: string
  readonly key: string
  readonly clientCa: string
  readonly crl?: string
  readonly crlExpired: 'refuse' | 'warn'
}

export interface ProviderConfig {
  readonly type: string
  /** Checked against the type's schema; defaults filled in, paths absolute. */
  readonly options: Readonly<Record<string, unknown>>
}

export interface AccountConfig {
  readonly provider: string
  /** Absent: the account's name. */
  readonly secret?: string
  /** The account options of the provider's type. */
  readonly options: Readonly<Record<string, unknown>>
}

export interface CcgConfig {
  readonly directory: string
  readonly namespace: string
  /** Absent only in Rancher mode with --disable-mtls: then `port.txt` is the only host file. */
  readonly client?: { readonly certificate: string; readonly key: string }
}

/** A configuration that stands in no file: that of Rancher mode. */
export interface WrittenConfig {
  /** In place of a file's path, for problems. */
  readonly source: string
  readonly document: Readonly<Record<string, unknown>>
  readonly openAccounts: boolean
  /** `tls` and `ccg.client` may be left out. */
  readonly disableMtls: boolean
  /** Where `admin.port` is taken, the system chooses another. */
  readonly anyAdminPort: boolean
}

export interface LoadOptions {
  /** --config. Without it GMSA_PROVIDER_CONFIG and then the two usual places are looked at. */
  readonly file?: string | undefined
  /** Used instead of any file. */
  readonly written?: WrittenConfig | undefined
  readonly env: NodeJS.ProcessEnv
  /** What flags set; stands above the environment. */
  readonly flags?: readonly Override[] | undefined
  readonly cwd: string
  readonly types?: readonly ProviderType[] | undefined
}

/** A configuration without a problem. */
export interface Loaded {
  readonly ok: true
  readonly config: Config
  /** The same as a document: defaults filled in, paths absolute, durations as text. */
  readonly effective: ConfigFile
  /** Absent where there is no file. */
  readonly file?: string
  /** What works and is probably not meant, a line each. */
  readonly warnings: readonly string[]
}

export type LoadResult = Loaded | { readonly ok: false; readonly problems: readonly Problem[] }

/** The source of the problem that there is no file at all. */
const NO_FILE = '--config'
const USUAL_PLACES = ['gmsa-account-provider.yaml', '/etc/gmsa-account-provider/config.yaml']

/**
 * Reads, checks and completes the configuration: file < environment < flags. Reports all problems at once, each with
 * its place; never rejects because of what the file or the environment hold.
 */
export async function loadConfig(options: LoadOptions): Promise<LoadResult> {
  const { written, env, cwd, types = PROVIDER_TYPES } = options
  const file = written ? undefined : await findConfigFile(options)
  if (file === undefined && !written) {
    const places = USUAL_PLACES.map((place) => resolve(cwd, place)).join(' or ')
    return { ok: false, problems: [{ source: NO_FILE, path: '', message: `not given, and there is no ${places}` }] }
  }
  const source = file === undefined ? fromWritten(written, cwd) : await readSource(file)
  const { origins } = source
  const document = source.document === null ? {} : source.document
  if (!isRecord(document)) {
    const expected = problemAt(origins.value([]), [], 'expected a mapping of listen, tls, providers and so on')
    return { ok: false, problems: source.problems.length > 0 ? source.problems : [expected] }
  }
  const schemaFor = (part: unknown) => schemaOf(part, types, written?.disableMtls)
  const overrides = [...environmentOverrides(env), ...(options.flags ?? [])]
  const problems = [...source.problems, ...applyOverrides(document, overrides, schemaFor, origins, cwd)]
  const schema = schemaFor(document)
  problems.push(...checkSchema(document, schema, origins))
  const completed = fillIn(document, schema, origins)
  problems.push(...checkRules(completed, types, origins, written?.openAccounts ?? false))
  if (problems.length > 0) return { ok: false, problems: problems.sort(byPlace) }
  // The one cast of this floor: checkSchema found nothing, so the document is what the schema describes.
  const effective = completed as ConfigFile
  const config = toConfig(effective, written)
  const warnings = findOddities(effective, origins).map(formatProblem)
  return { ok: true, config, effective, ...(file === undefined ? {} : { file }), warnings }
}

/** What was loaded; throws a GmsaError of CONFIG_INVALID whose message has all the problems, a line each. */
export function expectLoaded(result: LoadResult): Loaded {
  if (result.ok) return result
  const { length } = result.problems
  const title = length === 1 ? 'the configuration has a problem' : `the configuration has ${length} problems`
  const missing = result.problems.some(({ source }) => source === NO_FILE)
  throw new GmsaError('CONFIG_INVALID', [title, ...result.problems.map(formatProblem)].join('\n  '), {
    ...(missing ? { hint: 'name the file with --config or GMSA_PROVIDER_CONFIG' } : {}),
  })
}

/**
 * The file to read, absolute: --config, GMSA_PROVIDER_CONFIG, then the first of the usual places where there is one.
 * A file that was named need not exist: reading it says so.
 */
export async function findConfigFile({
  file,
  env,
  cwd,
}: Pick<LoadOptions, 'file' | 'env' | 'cwd'>): Promise<string | undefined> {
  const named = file || env['GMSA_PROVIDER_CONFIG']
  if (named) return isAbsolute(named) ? named : join(cwd, named)
  for (const place of USUAL_PLACES) {
    const path = resolve(cwd, place)
    const missing = await access(path, constants.F_OK).then(
      () => false,
      (error: NodeJS.ErrnoException) => error.code === 'ENOENT' || error.code === 'ENOTDIR',
    )
    if (!missing) return path
  }
  return undefined
}

function fromWritten(written: WrittenConfig | undefined, directory: string): Source {
  const origins = new Origins({ source: written?.source ?? '', directory })
  return { document: structuredClone(written?.document), origins, problems: [] }
}

function toConfig(file: ConfigFile, written: WrittenConfig | undefined): Config {
  const { listen, admin, tls, clients, ccg, cache, keys, timeouts, shutdown, limits, log } = file
  return {
    listen,
    admin: { ...admin, ...(written?.anyAdminPort && { orAnyPort: true }) },
    ...(tls ? { tls } : {}),
    providers: new Map(Object.entries(file.providers).map(([name, { type, ...options }]) => [name, { type, options }])),
    accounts: new Map(
      Object.entries(file.accounts).map(([name, { provider, secret, ...options }]) => [
        name,
        { provider, ...(secret === undefined ? {} : { secret }), options },
      ]),
    ),
    ...(clients ? { clients } : {}),
    openAccounts: written?.openAccounts ?? false,
    ...(ccg ? { ccg } : {}),
    reservedAccounts: reservedAccounts(file),
    keys: { keepPrevious: parseDuration(keys.keepPrevious) },
    cache: { maxAge: parseDuration(cache.maxAge), serveStale: parseDuration(cache.serveStale) },
    timeouts: { store: parseDuration(timeouts.store), request: parseDuration(timeouts.request) },
    shutdown: { drainDelay: parseDuration(shutdown.drainDelay), grace: parseDuration(shutdown.grace) },
    limits,
    log,
  }
}

/** In the order of the file; what stands elsewhere comes last. */
function byPlace(a: Problem, b: Problem): number {
  return (a.line ?? Number.MAX_SAFE_INTEGER) - (b.line ?? Number.MAX_SAFE_INTEGER) || (a.column ?? 0) - (b.column ?? 0)
}
