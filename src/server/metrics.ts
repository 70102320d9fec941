import type { X509Certificate } from 'node:crypto'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { GmsaError } from '../base/errors.ts'
import type { BrokerEvents } from '../broker/broker.ts'
import type { TlsMaterial } from './tls.ts'

export type Outcome = 'ok' | 'refused' | 'failed'

export interface Metrics extends BrokerEvents {
  readonly registry: Registry
  request(route: string, status: number, reason: string, seconds: number): void
  tlsRejected(reason: string): void
  tlsReloaded(outcome: 'ok' | 'failed'): void
  tlsCurrent(material: TlsMaterial): void
  certificateCurrent(role: 'server' | 'client_ca' | 'ccg_client', certificate: X509Certificate): void
}

export interface MetricsOptions {
  readonly version: string
  readonly commit: string
  /** Configured providers and accounts: their series exist from the start. */
  readonly providers: Iterable<string>
  readonly accounts: Iterable<string>
  readonly now: () => number
  /** Asked at each scrape: is the plug-in's debug switch, which logs passwords, on? Absent without host files. */
  readonly ccgDebugLog?: () => boolean
}

const PREFIX = 'gmsa_provider_'
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
/** Gauges that prom-client names like counters, which promtool refuses. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total']

/** What a status means for the `outcome` label. */
export function outcomeOf(status: number): Outcome {
  if (status < 400) return 'ok'
  return status < 500 ? 'refused' : 'failed'
}

/** The service's metrics, in a registry of their own. No label holds what a stranger could choose. */
export function makeMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry()
  const registers = [registry]
  const counter = (name: string, help: string, labelNames: string[]) =>
    new Counter({ name: PREFIX + name, help, labelNames, registers })
  const gauge = (name: string, help: string, labelNames: string[]) =>
    new Gauge({ name: PREFIX + name, help, labelNames, registers })
  const histogram = (name: string, help: string, labelNames: string[]) =>
    new Histogram({ name: PREFIX + name, help, labelNames, registers, buckets: SECONDS })

  const requests = counter('requests_total', 'Requests answered, by route template, HTTP status and our own code.', [
    'route',
    'code',
    'outcome',
    'reason',
  ])
  const durations = histogram('request_duration_seconds', 'Time from request head to answer.', ['route'])
  const reads = counter('provider_reads_total', 'Reads of the stores.', ['provider', 'outcome', 'reason'])
  const readDurations = histogram('provider_read_duration_seconds', 'Time a store took for one read.', ['provider'])
  const up = gauge('provider_up', 'Whether the store answered when it was last asked.', ['provider'])
  const cacheReads = counter('cache_reads_total', 'What the cache had.', ['result'])
  const lastSuccess = gauge(
    'account_last_success_timestamp_seconds',
    'When the account was last read with success, or answered from a fresh copy.',
    ['account'],
  )
  const stale = gauge('account_stale', 'Whether the last answer was older than allowed because the store is out.', [
    'account',
  ])
  const reloads = counter('certificate_reload_total', 'Reloads of the TLS files.', ['outcome'])
  const rejected = counter('tls_rejected_total', 'Connections refused before any request.', ['reason'])
  gauge('build_info', 'Version of this service; always 1.', ['version', 'commit', 'node']).set(
    { version: options.version, commit: options.commit, node: process.version },
    1,
  )
  if (options.ccgDebugLog) addDebugLogGauge(registry, options.ccgDebugLog)
  collectDefaultMetrics({ register: registry })
  for (const name of MISNAMED) registry.removeSingleMetric(name)
  for (const result of ['fresh', 'miss', 'joined', 'stale']) cacheReads.inc({ result }, 0)
  for (const outcome of ['ok', 'failed']) reloads.inc({ outcome }, 0)
  for (const provider of options.providers) up.set({ provider }, 0)
  for (const account of options.accounts) stale.set({ account }, 0)

  const requestCounter = keepChildren((route: string, status: number, reason: string) =>
    requests.labels({ route, code: String(status), outcome: outcomeOf(status), reason }),
  )
  const requestTimer = keepChildren((route: string) => durations.labels({ route }))
  const cacheCounter = keepChildren((result: string) => cacheReads.labels({ result }))
  const successGauge = keepChildren((account: string) => lastSuccess.labels({ account }))
  const staleGauge = keepChildren((account: string) => stale.labels({ account }))

  return {
    registry,
    request(route, status, reason, seconds) {
      requestCounter(route, status, reason).inc()
      requestTimer(route).observe(seconds)
    },
    cacheRead: (result) => cacheCounter(result).inc(),
    providerRead(provider, seconds, error?: GmsaError) {
      reads.inc({ provider, outcome: error ? 'failed' : 'ok', reason: error?.code ?? 'none' })
      readDurations.observe({ provider }, seconds)
    },
    providerUp: (provider, isUp) => up.set({ provider }, isUp ? 1 : 0),
    accountRead(account, outcome) {
      staleGauge(account).set(outcome.stale ? 1 : 0)
      if (!outcome.stale) successGauge(account).set(Math.floor(options.now() / 1000))
    },
    ...keyMetrics(registry),
    tlsRejected: (reason) => rejected.inc({ reason }),
    tlsReloaded: (outcome) => reloads.inc({ outcome }),
    ...certificateMetrics(registry),
  }
}

/** How long certificates and revocation list are valid. */
function certificateMetrics(registry: Registry): Pick<Metrics, 'tlsCurrent' | 'certificateCurrent'> {
  const gauge = (name: string, help: string) =>
    new Gauge({ name: PREFIX + name, help, labelNames: ['role'], registers: [registry] })
  const start = gauge('certificate_start_timestamp_seconds', 'When the certificate began.')
  const expiry = gauge('certificate_expiry_timestamp_seconds', 'When the certificate (or CRL) ends.')
  const certificateCurrent: Metrics['certificateCurrent'] = (role, { validFromDate, validToDate }) => {
    start.set({ role }, seconds(validFromDate))
    expiry.set({ role }, seconds(validToDate))
  }
  return {
    tlsCurrent(material) {
      certificateCurrent('server', material.certificate.value.leaf)
      const [firstToEnd] = material.authorities.value.certificates.toSorted(
        (one, other) => seconds(one.validToDate) - seconds(other.validToDate),
      )
      if (firstToEnd) certificateCurrent('client_ca', firstToEnd)
      if (material.revocations) expiry.set({ role: 'crl' }, material.revocations.value.nextUpdate / 1000)
    },
    certificateCurrent,
  }
}

/** What is counted of gMSA keys. */
function keyMetrics(registry: Registry): Pick<BrokerEvents, 'accountKeys' | 'directoryRead' | 'logOn'> {
  const registers = [registry]
  const kvnos = new Gauge({
    name: `${PREFIX}account_kvno`,
    help: 'Key version number of the password in force.',
    labelNames: ['account'],
    registers,
  })
  const nextRefresh = new Gauge({
    name: `${PREFIX}account_next_refresh_timestamp_seconds`,
    help: "When the account's password is to be read again; stays in the past while that fails.",
    labelNames: ['account'],
    registers,
  })
  const directoryReads = new Counter({
    name: `${PREFIX}directory_reads_total`,
    help: 'Reads of single directory servers.',
    labelNames: ['provider', 'server', 'outcome'],
    registers,
  })
  const logOns = new Counter({
    name: `${PREFIX}directory_log_ons_total`,
    help: 'Log-ons to a directory by password: with the current one of its store, or with the one before.',
    labelNames: ['provider', 'credential', 'outcome'],
    registers,
  })
  return {
    accountKeys(account, { kvno, nextDue }) {
      if (kvno !== undefined) kvnos.set({ account }, kvno)
      if (nextDue !== undefined) nextRefresh.set({ account }, Math.ceil(nextDue / 1000))
    },
    directoryRead: (provider, server, outcome) => directoryReads.inc({ provider, server, outcome }),
    logOn: (provider, credential, outcome) => logOns.inc({ provider, credential, outcome }),
  }
}

function addDebugLogGauge(registry: Registry, enabled: () => boolean): void {
  new Gauge({
    name: `${PREFIX}ccg_debug_log_enabled`,
    help: "Whether the CCG plug-in's debug switch is on, with which it writes passwords to the event log.",
    registers: [registry],
    collect() {
      this.set(enabled() ? 1 : 0)
    },
  })
}

function seconds(date: Date): number {
  return Math.floor(date.getTime() / 1000)
}

/** Label look-ups cost more than counting does: the child of each combination is looked up once. */
function keepChildren<A extends readonly (string | number)[], C>(make: (...labels: A) => C): (...labels: A) => C {
  const children = new Map<string, C>()
  return (...labels) => {
    const key = labels.join(' ')
    const child = children.get(key) ?? make(...labels)
    children.set(key, child)
    return child
  }
}
