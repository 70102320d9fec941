import type { X509Certificate } from 'node:crypto'
import type { RequestListener } from 'node:http'
import { setTimeout } from 'node:timers/promises'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { type AccountEntry, openBroker } from '../broker/broker.ts'
import { type ClientRule, type Grant, makePolicy } from '../broker/policy.ts'
import type { Provider } from '../providers/provider.ts'
import { type AdminOptions, openAdmin } from './admin.ts'
import { buildApp } from './app.ts'
import type { Drain } from './guard.ts'
import { type HostFiles, openHostFiles } from './host-files.ts'
import { type Listener, type ListenerEvents, openListener } from './listener.ts'
import { type Metrics, makeMetrics } from './metrics.ts'
import { makePeers, type Peers } from './peers.ts'
import { readyChecks } from './ready-checks.ts'
import { openTls, type TlsFiles, type TlsMaterial, type TlsStore } from './tls.ts'
import type { Trust } from './trust.ts'
import { makeWaits, type Waits } from './waits.ts'

/** The configuration as used, as far as the service needs it. */
export interface ServiceConfig {
  readonly listen: { readonly hosts: readonly string[]; readonly port: number }
  readonly admin: Pick<AdminOptions, 'host' | 'port' | 'orAnyPort'> & Partial<Pick<AdminOptions, 'statusPage'>>
  /** Absent: plain http, only with mTLS switched off by hand. */
  readonly tls?: TlsFiles
  readonly accounts: ReadonlyMap<string, AccountEntry>
  readonly clients?: readonly ClientRule[]
  /** Every verified client may read every name: Rancher mode alone. */
  readonly openToAll?: boolean
  readonly ccg?: {
    readonly directory: string
    readonly namespace: string
    /** Absent only where mTLS is switched off: the port file is all there is then. */
    readonly client?: { readonly certificate: string; readonly key: string }
  }
  /** Named accounts that stay closed without a `clients` section: other providers log on with them. */
  readonly reservedAccounts?: ReadonlySet<string>
  readonly cache: { readonly maxAge: number; readonly serveStale: number }
  /** Absent: as the configuration's default has it. */
  readonly keys?: { readonly keepPrevious: number }
  readonly timeouts: { readonly store: number; readonly request: number }
  readonly shutdown: { readonly drainDelay: number; readonly grace: number }
  readonly limits: { readonly requestsPerSecond: number }
}

export interface ServiceOptions {
  readonly config: ServiceConfig
  /** Open already; the service closes them. */
  readonly providers: ReadonlyMap<string, Provider>
  readonly clock: Clock
  readonly log: Log
  readonly version: string
  readonly commit: string
  /** For tests: load is shed while the event loop is late by more than this, in ms. */
  readonly maxEventLoopDelay?: number
}

export interface Service {
  readonly hosts: readonly string[]
  readonly port: number
  readonly admin: { readonly host: string; readonly port: number }
  /** Looks at the TLS files now instead of when a change is noticed. */
  reloadTls(): Promise<void>
  /** Stops gracefully within `shutdown.grace`. Calls that come together share one stop. */
  stop(): Promise<void>
}

const HANDSHAKE_TIMEOUT = 10_000
/** Given to the closing of stores and files even when answers took all of the grace, in ms. */
const TIDY_UP = 100
const NO_TRUST: Trust = { authorities: [], revoked: [] }

/** The parts that come up one after the other, and that others look at meanwhile. */
interface Parts {
  started: boolean
  readonly drain: Drain
  readonly waits: Waits
  readonly metrics: Metrics
  tls?: TlsStore
  hostFiles?: HostFiles
  listener?: Listener
}

/** Starts everything, in an order in which nothing answers before it can. Undone when any of it fails. */
export async function startService(options: ServiceOptions): Promise<Service> {
  const { config, providers, clock, log } = options
  await using undo = new AsyncDisposableStack()
  const parts: Parts = {
    started: false,
    drain: { draining: false, closed: false },
    waits: makeWaits(clock),
    metrics: makeMetrics({
      version: options.version,
      commit: options.commit,
      providers: providers.keys(),
      accounts: namedAccounts(config),
      now: clock.now,
      ...(config.ccg && { ccgDebugLog: () => parts.hostFiles?.debugLogEnabled() ?? false }),
    }),
  }
  const { metrics, drain, waits } = parts
  const timeout = config.timeouts.store
  const broker = undo.use(openBroker({ ...config, timeout, providers, clock, log, events: metrics }))
  const readiness = { drain, mtls: config.tls !== undefined, health: broker.health, clock }
  const checks = () => readyChecks({ ...readiness, started: parts.started, tls: parts.tls })
  const status = statusOf(options, parts)
  const admin = undo.use(await openAdmin({ statusPage: 'loopback', ...config.admin, metrics, checks, status }))
  const wanted = config.admin.port
  if (wanted !== 0 && admin.port !== wanted) log.warn({ port: admin.port, wanted }, 'admin port is taken: moved')
  const peers = makePeers({
    trust: () => parts.tls?.current().trust ?? NO_TRUST,
    policy: makePolicy({
      rules: config.clients,
      openAccounts: config.openToAll ? 'all' : openAccounts(config),
    }),
    clock,
  })
  if (config.tls) parts.tls = undo.use(await openTls(tlsOptions(config.tls, options, parts)))
  if (config.ccg) parts.hostFiles = undo.use(await openHostFilesFor(config.ccg, options, parts))
  const pressure = options.maxEventLoopDelay === undefined ? {} : { maxEventLoopDelay: options.maxEventLoopDelay }
  const app = await buildApp({ broker, peers, metrics, log, drain, waits, ...config.limits, ...pressure })
  undo.defer(() => app.close())
  parts.listener = await openListener(listenerOptions(app.routing, options, parts, peers))
  undo.defer(() => parts.listener?.close(0))
  await parts.hostFiles?.writePort(parts.listener.port)
  undo.defer(() => parts.hostFiles?.removePort())
  void broker.health.probeAll()
  parts.started = true
  const resources = undo.move()
  let stopping: Promise<void> | undefined
  return {
    hosts: parts.listener.hosts,
    port: parts.listener.port,
    admin: { host: admin.host, port: admin.port },
    reloadTls: async () => parts.tls?.reload(),
    stop() {
      stopping ??= stop(options, parts, resources)
      return stopping
    },
  }
}

/** What the status page shows beside the checks. */
function statusOf({ config, clock, version, commit }: ServiceOptions, parts: Parts): AdminOptions['status'] {
  const startedAt = new Date(clock.now())
  return () => {
    const material = parts.tls?.current()
    const ends = (role: string, certificates: readonly X509Certificate[] = []) => {
      return certificates.map(({ validToDate }) => ({ role, ends: validToDate }))
    }
    return {
      version,
      commit,
      startedAt,
      now: new Date(clock.now()),
      accounts: [...config.accounts].map(([name, { provider }]) => ({ name, provider })),
      certificates: [
        ...ends('server', material && [material.certificate.value.leaf]),
        ...ends('client CA', material?.authorities.value.certificates),
      ],
    }
  }
}

async function stop(
  { config, clock, log }: ServiceOptions,
  parts: Parts,
  resources: AsyncDisposableStack,
): Promise<void> {
  const { drainDelay, grace } = config.shutdown
  const deadline = clock.monotonic() + grace
  log.info({ drainDelay, grace }, 'stopping')
  parts.drain.draining = true
  parts.waits.end()
  await parts.hostFiles?.removePort().catch((error) => log.error({ problem: String(error.message) }, 'port file stays'))
  const left = () => Math.max(0, deadline - clock.monotonic())
  await setTimeout(Math.min(drainDelay, left()))
  parts.drain.closed = true
  await parts.listener?.close(left())
  // A store that does not let itself be closed must not hold up the process either.
  const closed = await endsWithin(left() + TIDY_UP, resources.disposeAsync())
  if (closed) log.info({}, 'stopped')
  else log.warn({}, 'stopped, though not everything could be closed in time')
}

/** Whether the task ends in time. It is not waited for any longer, and no timer is left behind. */
async function endsWithin(ms: number, task: Promise<void>): Promise<boolean> {
  const timer = new AbortController()
  const late = setTimeout(ms, false, { signal: timer.signal }).catch(() => false)
  try {
    return await Promise.race([task.then(() => true), late])
  } finally {
    timer.abort()
  }
}

function tlsOptions(files: TlsFiles, { clock, log }: ServiceOptions, parts: Parts) {
  const { metrics } = parts
  return {
    files,
    clock,
    log,
    events: {
      reloaded: metrics.tlsReloaded,
      current(material: TlsMaterial) {
        metrics.tlsCurrent(material)
        parts.listener?.setSecureContext(material.secureOptions)
        parts.hostFiles?.writeCertificates(material).catch((error) => {
          log.error({ problem: String(error.message) }, 'host files not rewritten; the old ones stay')
        })
      },
    },
  }
}

async function openHostFilesFor(
  ccg: NonNullable<ServiceConfig['ccg']>,
  { clock, log }: ServiceOptions,
  { tls, metrics }: Parts,
): Promise<HostFiles> {
  const onClientCertificate = (leaf: X509Certificate) => metrics.certificateCurrent('ccg_client', leaf)
  const hostFiles = await openHostFiles({ ...ccg, clock, log, onClientCertificate })
  if (tls) await hostFiles.writeCertificates(tls.current())
  return hostFiles
}

function listenerOptions(handler: RequestListener, options: ServiceOptions, { tls, metrics }: Parts, peers: Peers) {
  const { config, clock, log } = options
  return {
    ...config.listen,
    handler,
    peers,
    secure: tls ? () => tls.current().secureOptions : { anonymous: CREDENTIALS_ONLY },
    requestTimeout: config.timeouts.request,
    handshakeTimeout: HANDSHAKE_TIMEOUT,
    clock,
    log,
    events: listenerEvents(metrics, log),
  }
}

/** What a caller without certificate may do where mTLS was switched off by hand. */
const CREDENTIALS_ONLY: Grant = { allows: (_account, permission) => permission === 'credential' }

/** What every verified client may read the credential of where there is no `clients` section. */
function openAccounts(config: ServiceConfig): ReadonlySet<string> {
  return new Set(namedAccounts(config)).difference(config.reservedAccounts ?? new Set())
}

/** `*` stands for names that are not known. */
function namedAccounts(config: ServiceConfig): string[] {
  return [...config.accounts.keys()].filter((name) => name !== '*')
}

function listenerEvents(metrics: Metrics, log: Log): ListenerEvents {
  return {
    rejected(reason, socket) {
      metrics.tlsRejected(reason)
      const hint = reason === 'undecidable' ? 'with a CRL, all intermediate CAs belong into tls.clientCa' : undefined
      log.info({ reason, address: socket.remoteAddress, hint }, 'connection refused')
    },
    refusedBelow(code, status, socket) {
      metrics.request('none', status, code, 0)
      log.info({ route: 'none', outcome: 'refused', status, code, address: socket.remoteAddress }, 'request')
    },
  }
}
