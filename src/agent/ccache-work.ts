import type { Clock } from '../base/clock.ts'
import { GmsaError, toGmsaError } from '../base/errors.ts'
import { requestTicket } from '../kerberos/as-exchange.ts'
import type { Ticket } from '../kerberos/as-reply.ts'
import {
  type Ccache,
  CONFIG_REALM,
  type Credential,
  formatCcache,
  MAX_CCACHE_BYTES,
  parseCcache,
} from '../kerberos/ccache.ts'
import type { KeytabEntry } from '../kerberos/keytab.ts'
import { locateKdcs } from '../kerberos/locate-kdcs.ts'
import { isSamePrincipal, type Principal } from '../kerberos/principal.ts'
import type { CcacheConfig } from './config.ts'
import { parseAnswer } from './keytab-keeper.ts'
import { expectGmsa, type LeaseRecords } from './lease.ts'
import type { Round, RoundOptions, Work } from './output.ts'
import type { ServiceClient } from './service-client.ts'
import { openConfigured, type Target } from './target.ts'

export interface CcacheContext {
  readonly client: ServiceClient
  readonly clock: Clock
  /** From 0 to below 1. */
  readonly random: () => number
  readonly randomBytes: (length: number) => Uint8Array
  /** What the variable KRB5_CONFIG says, where it is set. */
  readonly krb5Config: string | undefined
  readonly leases: LeaseRecords
}

/** After this part of its life a ticket is replaced, and a little later where others are: there is more than half left. */
const RENEWED_AFTER = 0.4
const SPREAD = 0.08
/** The file is looked at this often, in ms: somebody may have removed it. */
const LOOK = 60_000
const SHORTEST_PAUSE = 1_000

/** The account's keys in force, as the service gave them last. */
export interface Keys {
  readonly principal: Principal
  readonly entries: readonly KeytabEntry[]
  readonly etag: string | undefined
  readonly server: string
}

/** A file with a ticket-granting ticket in it. */
interface Held {
  readonly bytes: Buffer
  readonly asWished: boolean
  readonly ticket: Credential
  /** Those for services that clients put beside it are counted too. */
  readonly tickets: number
}

/**
 * Keeps a ticket-granting ticket in a credential cache, got with the account's own key from a KDC. Tickets are not
 * renewed but replaced: that works for those that can't be renewed, and beyond the time until which others can.
 */
export class CcacheWork implements Work {
  readonly #config: CcacheConfig
  readonly #context: CcacheContext
  #target: Target | undefined
  #keys: Keys | undefined
  /** After which part of its life this ticket is replaced. */
  #share = RENEWED_AFTER

  constructor(config: CcacheConfig, context: CcacheContext) {
    this.#config = config
    this.#context = context
  }

  async open(): Promise<Target> {
    this.#target ??= await openConfigured(this.#config)
    return this.#target
  }

  async round({ signal, onReplacing }: RoundOptions): Promise<Round> {
    const target = await this.open()
    const path = await target.locate()
    this.#keys ??= await this.#ask(undefined, signal)
    const { lease } = this.#config
    if (lease) expectGmsa(lease, this.#keys.principal)
    const held = await readTicket(target, path, this.#keys.principal)
    if (held && this.#context.clock.now() < this.#dueAt(held.ticket)) {
      if (!held.asWished) await target.replace(path, held.bytes)
      if (lease) await this.#context.leases.update(lease, this.#keys.principal)
      return this.#result(path, false, held.ticket, held.tickets)
    }
    const keys = await this.#ask(this.#keys, signal).catch((thrown) => staySilent(thrown, this.#keys))
    this.#keys = keys
    const { ticket, bytes } = await this.#obtain(keys, signal)
    await onReplacing(path)
    await target.replace(path, bytes)
    if (lease) await this.#context.leases.update(lease, keys.principal)
    this.#share = RENEWED_AFTER + this.#context.random() * SPREAD
    return this.#result(path, true, ticket, 1)
  }

  async #ask(known: Keys | undefined, signal: AbortSignal): Promise<Keys> {
    return askForKeys(this.#config.account, this.#context.client, { known, signal })
  }

  async #obtain(keys: Keys, signal: AbortSignal): Promise<{ ticket: Credential; bytes: Buffer }> {
    try {
      const { credential: ticket, clockSkew } = await obtainTicket(keys, this.#config, { ...this.#context, signal })
      return { ticket, bytes: formatCcache({ principal: keys.principal, clockSkew, credentials: [ticket] }) }
    } catch (thrown) {
      // The password may just have changed: the next attempt asks for the keys anew.
      if (toGmsaError(thrown).code === 'STORE_DENIED') this.#keys = undefined
      throw thrown
    }
  }

  /** In ms since 1970; a ticket that starts later than it was made is none of ours. */
  #dueAt({ authTime, startTime, endTime }: Credential): number {
    const start = (startTime || authTime) * 1000
    return start + (endTime * 1000 - start) * this.#share
  }

  #result(path: string, changed: boolean, ticket: Credential, entries: number): Round {
    const refreshAt = this.#dueAt(ticket)
    const kvno = this.#keys?.entries[0]?.kvno ?? 0
    const server = this.#keys?.server
    const known = {
      kvno,
      entries,
      refreshAt,
      validUntil: ticket.endTime * 1000,
      ...(server !== undefined && { server }),
    }
    const untilDue = refreshAt - this.#context.clock.now()
    return { path, changed, known, pause: Math.max(SHORTEST_PAUSE, Math.min(untilDue, LOOK)) }
  }
}

/** The keys in force; `known` where they are still these. Rejects with a GmsaError, or with the signal's reason. */
export async function askForKeys(
  account: string,
  client: ServiceClient,
  { known, signal }: { readonly known?: Keys | undefined; readonly signal: AbortSignal },
): Promise<Keys> {
  const { bytes, etag, server } = await client.keytab({ account, use: 'initiator', etag: known?.etag, signal })
  if (!bytes && known) return { ...known, server }
  const entries = bytes ? parseAnswer(bytes, account) : []
  const [first] = entries
  if (!first) throw new GmsaError('STORE_UNAVAILABLE', `${account}: the service answers 304 to a first question`)
  return { principal: first.principal, entries, etag, server }
}

export interface ObtainOptions extends Pick<CcacheContext, 'clock' | 'random' | 'randomBytes' | 'krb5Config'> {
  readonly signal: AbortSignal
}

/** A ticket-granting ticket for these keys, from a KDC. Rejects with a GmsaError, or with the signal's reason. */
export async function obtainTicket(
  { principal, entries }: Keys,
  { ticket }: Pick<CcacheConfig, 'ticket'>,
  { clock, random, randomBytes, krb5Config: config, signal }: ObtainOptions,
): Promise<Ticket> {
  const { realm } = principal
  return requestTicket({
    ...ticket,
    client: principal,
    keys: entries,
    kdcs: () => locateKdcs({ realm, config, random }),
    clock,
    random: randomBytes,
    signal,
  })
}

/** With keys in hand a silent service is no reason to let a ticket end. */
function staySilent(thrown: unknown, known: Keys | undefined): Keys {
  if (!known || !SILENT.has(toGmsaError(thrown).code)) throw thrown
  return known
}

const SILENT: ReadonlySet<string> = new Set([
  'STORE_UNAVAILABLE',
  'STORE_TIMEOUT',
  'OVERLOADED',
  'DRAINING',
  'RATE_LIMITED',
])

/** The file, where it is a credential cache of this client with a ticket-granting ticket of his realm in it. */
async function readTicket(target: Target, path: string, client: Principal): Promise<Held | undefined> {
  const found = await target.read(path, MAX_CCACHE_BYTES)
  const ccache = found && parsed(found.bytes)
  if (!ccache || !isSamePrincipal(ccache.principal, client)) return undefined
  const { realm } = client
  const server = { realm, components: ['krbtgt', realm], nameType: 0 }
  const tickets = ccache.credentials.filter((each) => each.server.realm !== CONFIG_REALM)
  const ticket = tickets.find((each) => isSamePrincipal(each.server, server) && isSamePrincipal(each.client, client))
  return ticket && { ...found, ticket, tickets: tickets.length }
}

/** Whatever else stands there is replaced: a ticket can always be got again. */
function parsed(bytes: Buffer): Ccache | undefined {
  try {
    return parseCcache(bytes)
  } catch {
    return undefined
  }
}
