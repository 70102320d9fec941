import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { DomainFacts } from '../gmsa/credential-spec.ts'
import type { ImpersonationCredential, KdsRootKeys, Kind, MaterialOf } from '../gmsa/material.ts'

/** An account as configured, and as a provider is asked for it. */
export interface Account {
  /** Our own name of it, a DNS-1123 subdomain. */
  readonly name: string
  /** The store's own name, path, URI or ARN; the account's name where the configuration gives none. */
  readonly secret: string
  /** The entry's other options, checked against the provider type's account schema. */
  readonly options: Readonly<Record<string, unknown>>
}

/**
 * Reads one kind of material. Rejects with a GmsaError: ACCOUNT_NOT_FOUND, MATERIAL_MALFORMED, STORE_DENIED,
 * STORE_UNAVAILABLE, with `retryAfter` where the store names a time. Never resolves to nothing. The caller owns the
 * deadline, `signal` ends the read, and it is the caller that tries again.
 */
export type Read<K extends Kind> = (account: Account, signal: AbortSignal) => Promise<MaterialOf<K>>

/** One configured store. The broker sees this and nothing else of it. */
export interface Provider extends AsyncDisposable {
  /** Instance name from the configuration; also the `provider` label of its metrics. */
  readonly name: string
  /** A capability is a method that exists. Offer the rawest kind you hold; the broker derives the rest. */
  readonly reads: { readonly [K in Kind]?: Read<K> }
  /**
   * The credential that was in force before the current one, where the store keeps it: tried once when the current one
   * fails to log on. Rejects as `reads` do, with ACCOUNT_NOT_FOUND where there is none before.
   */
  readonly readPrevious?: Read<'credential'>
  /** Present where the store is a directory: what a credential spec says of its domain. Rejects with a GmsaError. */
  domain?(signal: AbortSignal): Promise<DomainFacts>
  /** One cheap round trip that proves the store answers us. Rejects with a GmsaError. */
  probe(signal: AbortSignal): Promise<void>
  /**
   * Present only where the store can push; without it the broker re-reads by age. `changed` is called with the
   * store's own name of the account, or with nothing when any could have changed.
   */
  watch?(changed: (secret?: string) => void): Disposable
  /**
   * Present where the provider chooses among several servers. `asked` is called once for each server that a read
   * turned to, whatever came of it: for the metric.
   */
  watchServers?(asked: (server: string, outcome: 'ok' | 'failed') => void): Disposable
  /** Present where the provider logs on with a password that it reads. `tried` is called once for each try: for the metric. */
  watchLogOns?(tried: (credential: 'current' | 'previous', outcome: LogOnOutcome) => void): Disposable
}

/** A password was taken, refused as wrong, or neither was said. */
export type LogOnOutcome = 'ok' | 'refused' | 'failed'

/** Reads a credential by the names of its provider and account, see {@link ProviderContext}. */
export type ReadCredential = (
  provider: string,
  account: string,
  signal: AbortSignal,
  which?: 'current' | 'previous',
) => Promise<ImpersonationCredential>

/** Reads KDS root keys by the names of their provider and account, see {@link ProviderContext}. The reader wipes them. */
export type ReadRootKeys = (provider: string, account: string, signal: AbortSignal) => Promise<KdsRootKeys>

/** What a provider may use of the process around it. */
export interface ProviderContext {
  readonly log: Log
  readonly clock: Clock
  /**
   * Reads an impersonation credential from another configured store: what a `bind` with `provider` and `account` names.
   * Always from the store, never from a cache. Rejects with a GmsaError, CONFIG_INVALID where the store is not one of
   * the configured ones or holds no credentials. Absent where a provider is opened on its own. The `previous` one is
   * ACCOUNT_NOT_FOUND where there is none, or the store keeps none.
   */
  readonly readCredential?: ReadCredential
  /** The same for KDS root keys: what `rootKeys` with `provider` and `account` names. */
  readonly readRootKeys?: ReadRootKeys
}
