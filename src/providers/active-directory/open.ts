import { DURATION_PATTERN, parseDuration } from '../../base/duration.ts'
import { GmsaError } from '../../base/errors.ts'
import { makeListeners } from '../../base/listeners.ts'
import type { Resolve } from '../../base/srv.ts'
import { inTime } from '../../base/time-limit.ts'
import { accountOptionsOf } from '../../gmsa/account-options.ts'
import type { ManagedPassword } from '../../gmsa/material.ts'
import { readCa } from '../pem-file.ts'
import type { Account, Provider, ProviderContext } from '../provider.ts'
import { type Bind, type OnTry, openBind } from './bind.ts'
import { silentServer } from './causes.ts'
import { type Connection, openConnection, type Transport } from './connection.ts'
import { readDirectoryTime } from './directory.ts'
import { discoverControllers } from './discovery.ts'
import { readDomainFacts } from './domain-facts.ts'
import { failover, type Outcome } from './failover.ts'
import { readManagedPassword } from './managed-password.ts'
import { connectionPool, type Lease } from './pool.ts'
import type { Options } from './schema.ts'

const PORTS: Readonly<Record<Transport, number>> = { ldaps: 636, starttls: 389 }
/** Node's timers hold no more than 2^31 ms. */
const MAX_TIMEOUT = 60_000
/** An error of ours should be the answer, not that of a caller whose deadline is the same. */
const MARGIN = 0.95
/** How long in ms the controllers that the DNS named are taken for all there are. */
const REDISCOVER = 10 * 60_000
/** A refusal over a connection no older than this, in ms, is no matter of groups that have changed since. */
const FRESH = 2_000

/** What a test replaces. */
export interface Surroundings {
  readonly random?: () => number
  readonly resolve?: Resolve
}

/** Opens the provider; no connection is made before the first read. Rejects with CONFIG_INVALID. */
export async function openActiveDirectory(
  name: string,
  options: Options,
  context: ProviderContext,
  { random = Math.random, resolve }: Surroundings = {},
): Promise<Provider> {
  const { clock, log } = context
  const { domain: domainAsWritten, transport = 'ldaps', port = PORTS[transport], ca } = options
  const domain = domainAsWritten.toLowerCase()
  const searchBase = options.searchBase ?? domainBase(domain)
  const timeout = timeoutOf(name, options) * MARGIN
  const tries = makeListeners<Parameters<OnTry>>()
  const bind = openBind(name, options.bind, context, tries.tell)
  const pool = connectionPool({
    clock,
    open: (host) => connectAndLogOn({ host, port, transport, ca, timeout }, bind, context),
  })
  const servers = options.servers
    ? async () => options.servers ?? []
    : remembered(() => discoverControllers({ domain, site: options.site, random, resolve }), context)
  const rounds = failover({
    clock,
    random,
    timeout,
    servers,
    isOurs: (error) => bind.isOurs(error),
    onFailure(server, error, failures) {
      const fields = { provider: name, server, reason: error.reason, problem: error.message }
      log[failures === 1 ? 'warn' : 'debug'](fields, 'domain controller does not serve')
      if (error.reason === 'hang') pool.drop(server)
    },
    onRecovery: (server) => log.info({ provider: name, server }, 'domain controller serves again'),
  })

  const asked = makeListeners<[server: string, outcome: 'ok' | 'failed']>()
  const onOutcome = (server: string, outcome: Outcome) => asked.tell(server, outcome === 'ok' ? 'ok' : 'failed')

  async function readManaged(account: Account, signal: AbortSignal): Promise<ManagedPassword> {
    const samAccountName = accountOptionsOf(account.options).samAccountName ?? `${account.name}$`
    const lookup = { samAccountName, domain, searchBase }
    const read = ({ connection }: Lease) => readManagedPassword(connection.client, connection.host, lookup, clock)
    const attempt = (server: string) =>
      pool.use(server, (lease) => read(lease).catch((error) => readAnew(error, lease, server, read)))
    return rounds.run(attempt, { signal, onOutcome })
  }

  /** The rights of a connection are those at its log-on: a refusal counts only when they are those of now. */
  async function readAnew<T>(error: unknown, lease: Lease, server: string, read: (lease: Lease) => Promise<T>) {
    const refused = error instanceof GmsaError && error.reason === 'not-permitted'
    if (!refused || lease.age() < FRESH) throw error
    lease.retire()
    return pool.use(server, read)
  }

  return {
    name,
    reads: { 'managed-password': readManaged },
    domain(signal) {
      const read = ({ connection: { client, host } }: Lease) => readDomainFacts(client, host, domainBase(domain))
      return rounds.run((server) => pool.use(server, read), { signal, onOutcome })
    },
    async probe(signal) {
      await rounds.run((server) => pool.use(server, ({ connection }) => readDirectoryTime(connection.client)), {
        signal,
      })
    },
    watchServers: asked.add,
    watchLogOns: tries.add,
    async [Symbol.asyncDispose]() {
      asked.clear()
      tries.clear()
      pool[Symbol.dispose]()
    },
  }
}

interface Reach {
  readonly host: string
  readonly port: number
  readonly transport: Transport
  /** Path of the PEM file, read anew for each connection. */
  readonly ca: string | undefined
  readonly timeout: number
}

/** A connection that has logged on. Takes no longer than `timeout`, and leaves nothing open when it fails. */
async function connectAndLogOn(
  { ca: caFile, ...reach }: Reach,
  bind: Bind,
  { clock }: ProviderContext,
): Promise<Connection> {
  const [ca, shown] = await Promise.all([caFile === undefined ? undefined : readCa(caFile), bind.tls()])
  const connection = openConnection({ ...reach, tls: { ...shown, ...(ca === undefined ? {} : { ca }) } })
  const logOn = async (signal: AbortSignal) => {
    await connection.secure()
    await bind.logOn(connection, signal)
  }
  try {
    await inTime({ clock, limit: reach.timeout, late: () => silentServer(reach.host) }, logOn)
    return connection
  } catch (error) {
    connection.close()
    throw error
  }
}

/** Finds the servers once in a while. When finding them fails those known are kept. */
function remembered(find: () => Promise<string[]>, { clock }: ProviderContext): () => Promise<readonly string[]> {
  let known: readonly string[] = []
  let until = Number.NEGATIVE_INFINITY
  let finding: Promise<readonly string[]> | undefined
  const findNow = async () => {
    try {
      known = await find()
      until = clock.monotonic() + REDISCOVER
    } catch (error) {
      if (known.length === 0) throw error
    } finally {
      finding = undefined
    }
    return known
  }
  return async () => {
    if (clock.monotonic() < until) return known
    finding ??= findNow()
    // Those known will do meanwhile: a silent DNS server must not hold up a read.
    if (known.length === 0) return finding
    finding.catch(() => {})
    return known
  }
}

/** `DC=ad,DC=test` of `ad.test`. */
export function domainBase(domain: string): string {
  return domain
    .split('.')
    .map((label) => `DC=${label}`)
    .join(',')
}

function timeoutOf(name: string, { timeout: text = '5s' }: Options): number {
  const ms = new RegExp(DURATION_PATTERN).test(text) ? parseDuration(text) : 0
  if (ms > 0 && ms <= MAX_TIMEOUT) return ms
  throw new GmsaError('CONFIG_INVALID', `providers.${name}.timeout: expected a duration from 1ms to 60s`)
}
