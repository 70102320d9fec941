import type { Clock } from '../base/clock.ts'
import { GmsaError } from '../base/errors.ts'
import type { Secret } from '../base/secret.ts'
import { inTime } from '../base/time-limit.ts'
import { confounderLength, encrypt } from '../crypto/encryption.ts'
import { kdcRefusal, noCommonEnctype } from './as-errors.ts'
import {
  type AsRequest,
  type EnctypeInfo,
  encodeAsRequest,
  encodeEncryptedTimestamp,
  encodeTimestamp,
  findEnctypeInfo,
  KDC_FLAGS,
  type KerberosError,
  PA_FX_COOKIE,
  type PreauthData,
  parseMethodData,
} from './as-messages.ts'
import { acceptReply, otherSalt, type Ticket, type UsableKey } from './as-reply.ts'
import { MAX_TIME } from './asn1.ts'
import { enctypeOf } from './enctype.ts'
import { KRB_ERRORS } from './error-codes.ts'
import { askKdcs, type Kdc, type KdcAnswer, type KdcList } from './kdc.ts'
import { type KdcSockets, systemSockets } from './kdc-sockets.ts'
import { NAME_TYPES, type Principal } from './principal.ts'

/** A long-term key of the client. A KerberosKey is one, and so is an entry of a keytab. */
export interface ClientKey {
  readonly enctype: number
  readonly key: Secret
  readonly kvno?: number
}

export interface TicketRequest {
  /** Whose ticket: `web01$` and its realm. */
  readonly client: Principal
  /** Keys in force, the preferred first; of several of one enctype the first counts, of enctypes unknown here none. */
  readonly keys: readonly ClientKey[]
  /** The realm's KDCs, or how to find them: see locateKdcs. */
  readonly kdcs: KdcList | ((signal: AbortSignal) => Promise<KdcList>)
  /** How long the ticket is to live, in ms; the KDC may give less, and Infinity asks for all it gives. Default 10 hours. */
  readonly lifetime?: number
  /** How long it is to be renewable, in ms; absent: not at all. */
  readonly renewLifetime?: number
  /** Default false. */
  readonly forwardable?: boolean
  /** The salt the keys were made with, to be compared with the KDC's. */
  readonly salt?: string
  readonly clock: Clock
  /** As many fresh random bytes as asked for. */
  readonly random: (length: number) => Uint8Array
  readonly signal?: AbortSignal
  /** For everything together, in ms. Default 8 seconds. */
  readonly timeout?: number
  readonly sockets?: KdcSockets
}

/** What a KDC's unauthenticated demand for pre-authentication says. */
interface Demand {
  readonly key: UsableKey
  readonly info: readonly EnctypeInfo[]
  /** To be sent back as it came (RFC 6113 5.2). */
  readonly cookies: readonly PreauthData[]
}

/** What the answers so far have taught. */
interface Known {
  /** The KDC that answered comes first from then on. */
  readonly list: KdcList
  /** How far the KDC's clock is ahead of ours, in ms. */
  readonly clockSkew: number
  readonly demand?: Demand
}

const LIFETIME = 10 * 3_600_000
const TIMEOUT = 8_000
/** A request without and one with pre-authentication, and one more by a clock set right. */
const MAX_ROUNDS = 3
/** Key usage of PA-ENC-TIMESTAMP (RFC 4120 7.5.1). */
const USAGE_TIMESTAMP = 1

/**
 * Obtains a ticket-granting ticket with the client's own keys (RFC 4120 3.1): asks without pre-authentication, answers
 * the KDC's demand by a timestamp of the KDC's clock under the client's key, and verifies the reply. The clocks may
 * differ by any amount, as MIT's clients have it: what the KDC says of the time before it is authenticated may be
 * forged, but all that leads to is a refusal.
 *
 * Rejects with a GmsaError, whose reason says why: ACCOUNT_NOT_FOUND with not-found (no such client) or wrong-realm;
 * STORE_DENIED with bad-password (wrong key or kvno), disabled, expired, locked, password-expired, must-change,
 * not-permitted or no-enctype; STORE_UNAVAILABLE with refused or not-found (no KDC), clock or protocol; STORE_TIMEOUT
 * with hang. An aborted `signal` ends it with its own reason.
 */
export async function requestTicket(request: TicketRequest): Promise<Ticket> {
  return timed(request, async (signal) => {
    const keys = usableKeys(request.keys)
    let known: Known = { list: await listOf(request, signal), clockSkew: 0 }
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const asked = compose(request, keys, known)
      const { reply, kdc } = await ask(asked, request, known.list, signal)
      if (reply.kind === 'reply') {
        const { clockSkew, demand } = known
        const { salt, clock } = request
        return acceptReply(reply, { asked, kdc, keys, clockSkew, info: demand?.info, salt, now: clock.now() })
      }
      known = learn(reply, kdc, known, request, keys)
    }
    throw new GmsaError('STORE_UNAVAILABLE', 'the KDC asks for the same again and again', { reason: 'protocol' })
  })
}

/**
 * The clock of the first KDC that answers, in ms since 1970, as it states it in its demand for pre-authentication or
 * its refusal; absent where it gives a ticket at once. Nothing authenticates it. Rejects as {@link requestTicket} does
 * where no KDC answers.
 */
export async function readKdcTime(request: TicketRequest): Promise<{ readonly kdc: Kdc; readonly time?: number }> {
  return timed(request, async (signal) => {
    const known = { list: await listOf(request, signal), clockSkew: 0 }
    const { reply, kdc } = await ask(compose(request, usableKeys(request.keys), known), request, known.list, signal)
    return reply.kind === 'error' ? { kdc, time: reply.time } : { kdc }
  })
}

/** Runs `task` for as long as the request may take. */
function timed<T>(
  { client, clock, timeout = TIMEOUT, signal }: TicketRequest,
  task: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = () =>
    new GmsaError('STORE_TIMEOUT', `no KDC of ${client.realm} answers within ${timeout} ms`, {
      reason: 'hang',
      hint: 'check the addresses and the firewall: port 88, UDP and TCP',
    })
  return inTime({ clock, limit: timeout, late, signal }, task)
}

async function listOf({ kdcs }: TicketRequest, signal: AbortSignal): Promise<KdcList> {
  return typeof kdcs === 'function' ? kdcs(signal) : kdcs
}

function usableKeys(keys: readonly ClientKey[]): UsableKey[] {
  const usable = keys.flatMap((key) => {
    const enctype = enctypeOf(key.enctype)?.number
    return enctype === undefined ? [] : [{ ...key, enctype }]
  })
  const first = usable.filter((key, index) => usable.findIndex(({ enctype }) => enctype === key.enctype) === index)
  if (first.length === 0) throw noCommonEnctype('none of the keys is of an enctype known here')
  return first
}

async function ask(
  asked: AsRequest,
  { clock, sockets = systemSockets }: TicketRequest,
  list: KdcList,
  signal: AbortSignal,
): Promise<KdcAnswer> {
  return askKdcs(encodeAsRequest(asked), { ...list, sockets, clock, signal })
}

/** The next request. Its times are the KDC's, as far as known. */
function compose(request: TicketRequest, keys: readonly UsableKey[], { clockSkew, demand }: Known): AsRequest {
  const { client, lifetime = LIFETIME, renewLifetime, forwardable = false, clock, random } = request
  const now = clock.now() + clockSkew
  const flags = [forwardable && KDC_FLAGS.forwardable, renewLifetime !== undefined && KDC_FLAGS.renewable]
  return {
    client,
    server: { realm: client.realm, components: ['krbtgt', client.realm], nameType: NAME_TYPES['srv-inst'] },
    options: flags.reduce<number>((sum, flag) => sum | Number(flag), 0),
    till: Math.min(now + lifetime, MAX_TIME),
    ...(renewLifetime !== undefined && { renewTill: Math.min(now + renewLifetime, MAX_TIME) }),
    // 31 bits: some KDCs take it for a number with a sign.
    nonce: Buffer.from(random(4)).readUInt32BE() >>> 1,
    enctypes: keys.map(({ enctype }) => enctype),
    preauth: demand ? [...demand.cookies, encryptedTimestamp(demand.key, now, random)] : [],
  }
}

function encryptedTimestamp({ enctype, key }: UsableKey, now: number, random: TicketRequest['random']): PreauthData {
  const confounder = random(confounderLength(enctype))
  const cipher = encrypt(enctype, key.reveal(), USAGE_TIMESTAMP, encodeTimestamp(now), confounder)
  // Without a kvno: some KDCs would look that one up, and the right key must do under a wrong number.
  return encodeEncryptedTimestamp({ enctype, cipher })
}

/** What an error teaches for the next request. Throws what it means where there is to be none. */
function learn(
  error: KerberosError,
  kdc: Kdc,
  { list, demand, clockSkew }: Known,
  { client, clock, salt }: TicketRequest,
  keys: readonly UsableKey[],
): Known {
  const next = {
    list: { ...list, kdcs: [kdc, ...list.kdcs.filter((each) => each !== kdc)] },
    clockSkew: error.time - clock.now(),
  }
  if (error.code === KRB_ERRORS.KDC_ERR_PREAUTH_REQUIRED && !demand) {
    return { ...next, demand: readDemand(error, keys) }
  }
  // The KDC that made the demand was another one, or its clock has moved.
  const sameTime = Math.abs(next.clockSkew - clockSkew) < 1_000
  if (error.code === KRB_ERRORS.KRB_AP_ERR_SKEW && demand && !sameTime) return { ...next, demand }
  const saltOfKdc = demand && otherSalt(demand.info, demand.key.enctype, salt)
  throw kdcRefusal(error, { client, kdc, key: demand?.key, otherSalt: saltOfKdc })
}

function readDemand({ data }: KerberosError, keys: readonly UsableKey[]): Demand {
  const methods = data ? parseMethodData(data) : []
  const info = findEnctypeInfo(methods)
  const key = info.length === 0 ? keys[0] : keys.find(({ enctype }) => info.some((each) => each.enctype === enctype))
  if (!key) throw noCommonEnctype('the KDC has none of the enctypes asked for')
  return { key, info, cookies: methods.filter(({ type }) => type === PA_FX_COOKIE) }
}
