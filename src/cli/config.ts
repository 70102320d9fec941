import type { ClientRule } from '../broker/policy.ts'

/** The configuration as used: defaults filled in, paths absolute, durations in milliseconds. */
export interface Config {
  readonly listen: { readonly hosts: readonly string[]; readonly port: number }
  readonly admin: { readonly host: string; readonly port: number; readonly statusPage: 'loopback' | boolean }
  /** Absent only in Rancher mode with --disable-mtls. */
  readonly tls?: TlsConfig
  readonly providers: ReadonlyMap<string, ProviderConfig>
  /** May hold `*`, which stands for every name not listed. */
  readonly accounts: ReadonlyMap<string, AccountConfig>
  /** Absent: a verified certificate may read `credential` of the accounts named in `accounts`. */
  readonly clients?: readonly ClientRule[]
  readonly ccg?: CcgConfig
  readonly cache: { readonly maxAge: number; readonly serveStale: number }
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
  /** Checked against the type's schema; paths absolute. */
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
  readonly client: { readonly certificate: string; readonly key: string }
}
