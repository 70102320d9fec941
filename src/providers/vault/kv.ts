import type { Clock } from '../../base/clock.ts'
import { GmsaError } from '../../base/errors.ts'
import { membersOf, type StoreAnswer } from '../http.ts'
import type { Account } from '../provider.ts'
import type { RecordStore, StoredRecord } from '../records.ts'
import { requestError, strangeAnswer } from './causes.ts'

/** A GET of a path below /v1, as the server answers it to a token that it knows. */
export type Ask = (path: string, signal: AbortSignal, query?: string) => Promise<StoreAnswer>

export interface KvOptions {
  readonly ask: Ask
  /** Host and port, for messages. */
  readonly server: string
  readonly mount: string
  readonly prefix?: string | undefined
  /** Absent: the server is asked. */
  readonly version?: 1 | 2 | undefined
  readonly clock: Clock
}

/** One mount of the KV secrets engine. */
export interface KvMount extends Required<Pick<RecordStore, 'read' | 'readPrevious'>> {
  /** The engine's version. Rejects with STORE_DENIED where no KV engine is mounted there, or we may not know. */
  version(signal: AbortSignal): Promise<1 | 2>
}

interface Versioned {
  readonly record: StoredRecord
  readonly version: number
}

/** A mount can be given versions while we run: how long its version is remembered, in ms. */
const REMEMBER = 10 * 60_000

export function openKv({ ask, server, mount, prefix, version: configured, clock }: KvOptions): KvMount {
  let detected: { readonly version: 1 | 2; readonly until: number } | undefined

  async function version(signal: AbortSignal): Promise<1 | 2> {
    if (configured !== undefined) return configured
    if (!detected || clock.monotonic() >= detected.until) {
      detected = { version: await detectVersion(ask, server, mount, signal), until: clock.monotonic() + REMEMBER }
    }
    return detected.version
  }

  async function readPlain(name: string, signal: AbortSignal): Promise<StoredRecord> {
    const path = `${mount}/${name}`
    const answer = await ask(path, signal)
    if (answer.status !== 200) throw notVersioned(answer, server, mount) ?? requestError(answer, server, path)
    return recordIn(membersOf(answer.body)['data'], server, path)
  }

  async function readVersion(name: string, wanted: number | undefined, signal: AbortSignal): Promise<Versioned> {
    const path = `${mount}/data/${name}`
    const answer = await ask(path, signal, wanted === undefined ? '' : `?version=${wanted}`)
    const { data, metadata } = membersOf(membersOf(answer.body)['data'])
    const what = wanted === undefined ? path : `version ${wanted} of ${path}`
    if (answer.status === 404 && metadata !== undefined) throw goneError(membersOf(metadata), server, path)
    if (answer.status !== 200) throw requestError(answer, server, path, what)
    return { record: recordIn(data, server, path), version: Number(membersOf(metadata)['version']) }
  }

  return {
    version,
    async read(account, signal) {
      const name = secretName(account, prefix)
      const wanted = pinned(account)
      if ((await version(signal)) === 2) return (await readVersion(name, wanted, signal)).record
      if (wanted === undefined) return readPlain(name, signal)
      throw new GmsaError(
        'ACCOUNT_NOT_FOUND',
        `account ${account.name}: ${mount} is KV version 1, which keeps no versions`,
      )
    },
    async readPrevious(account, signal) {
      const name = secretName(account, prefix)
      const keepsNone = (await version(signal)) === 1
      const current = keepsNone ? 1 : (pinned(account) ?? (await readVersion(name, undefined, signal)).version)
      if (current > 1) return (await readVersion(name, current - 1, signal)).record
      throw new GmsaError(
        'ACCOUNT_NOT_FOUND',
        `account ${account.name}: ${mount} keeps no version before the current one`,
      )
    },
  }
}

async function detectVersion(ask: Ask, server: string, mount: string, signal: AbortSignal): Promise<1 | 2> {
  const path = `sys/internal/ui/mounts/${mount}`
  const answer = await ask(path, signal)
  if (answer.status === 403) {
    throw new GmsaError('STORE_DENIED', `${server} does not tell which secrets engine is mounted at ${mount}`, {
      reason: 'not-permitted',
      hint: 'check mount; a policy of ours has to let us read something below it. Or set kvVersion',
    })
  }
  if (answer.status !== 200) throw requestError(answer, server, path)
  const { type, path: mounted, options } = membersOf(membersOf(answer.body)['data'])
  if (typeof type !== 'string' || typeof mounted !== 'string') throw strangeAnswer(server, path)
  if (type !== 'kv' && type !== 'generic') throw noKv(server, mount, `is of type ${type}, not kv`)
  if (mounted !== `${mount}/`) throw noKv(server, mount, `lies within the mount ${mounted}`)
  return membersOf(options)['version'] === '2' ? 2 : 1
}

function noKv(server: string, mount: string, problem: string): GmsaError {
  return new GmsaError('STORE_DENIED', `on ${server} ${mount} ${problem}`, {
    reason: 'not-found',
    hint: 'mount names the mount of a KV secrets engine; what comes below it stands in prefix or in secret',
  })
}

/** What KV version 2 says of a request for version 1: nothing is there, with a warning. */
function notVersioned({ status, body }: StoreAnswer, server: string, mount: string): GmsaError | undefined {
  const { warnings } = membersOf(body)
  if (status !== 404 || !Array.isArray(warnings) || warnings.length === 0) return undefined
  return new GmsaError('STORE_DENIED', `on ${server} ${mount} is not of KV version 1`, {
    reason: 'not-found',
    hint: 'leave kvVersion out, or set it to 2',
  })
}

/** A version that is there no more: 404 all the same, with its metadata. */
function goneError({ version, destroyed }: Readonly<Record<string, unknown>>, server: string, path: string): GmsaError {
  const what = `version ${Number(version)} of ${path} on ${server}`
  if (destroyed === true) return new GmsaError('ACCOUNT_NOT_FOUND', `${what} is destroyed`)
  return new GmsaError('ACCOUNT_NOT_FOUND', `${what} is deleted`, { hint: 'undelete it, or write a new version' })
}

function recordIn(data: unknown, server: string, path: string): StoredRecord {
  if (typeof data === 'object' && data !== null) return membersOf(data)
  throw strangeAnswer(server, path)
}

/** The path below the mount. Rejects names that could mean another place. */
function secretName({ name, secret }: Account, prefix: string | undefined): string {
  const path = prefix === undefined ? secret : `${prefix}/${secret}`
  const odd = path.split('/').some((segment) => segment === '' || segment === '.' || segment === '..')
  if (!odd && path.isWellFormed() && !/\p{Cc}/u.test(path)) return path
  throw new GmsaError('ACCOUNT_NOT_FOUND', `secret of account ${name} is not a path below the mount`)
}

function pinned({ options }: Account): number | undefined {
  const { version } = options
  return typeof version === 'number' ? version : undefined
}
