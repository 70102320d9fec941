import { GmsaError } from '../base/errors.ts'
import type { Secret } from '../base/secret.ts'
import { decrypt } from '../crypto/encryption.ts'
import { sealedReply } from './as-errors.ts'
import {
  type AsReply,
  type AsRequest,
  type EnctypeInfo,
  findEnctypeInfo,
  KDC_FLAGS,
  parseReplyPart,
  type ReplyPart,
} from './as-messages.ts'
import type { Credential } from './ccache.ts'
import { type EnctypeNumber, enctypeOf } from './enctype.ts'
import { type Kdc, kdcName } from './kdc.ts'
import { isSamePrincipal } from './principal.ts'

/** A long-term key of the client, of an enctype that we can encrypt with. */
export interface UsableKey {
  readonly enctype: EnctypeNumber
  readonly key: Secret
  readonly kvno?: number
}

/** What is odd and did no harm: salt or rounds as ETYPE-INFO2 has them, or the key's version, are not what we have. */
export type TicketNote = 'other-salt' | 'other-rounds' | 'other-kvno'

/** A ticket-granting ticket, and how it was got. */
export interface Ticket {
  readonly credential: Credential
  /** The KDC that gave it, as `host:port`. */
  readonly kdc: string
  /** The client's key that opened the reply. */
  readonly enctype: EnctypeNumber
  /** The kvno that the KDC has for it, where it says. */
  readonly kvno?: number
  /** How far the KDC's clock is ahead of ours, in ms. */
  readonly clockSkew: number
  readonly notes: readonly TicketNote[]
}

/** What the reply has to fit. */
export interface Asked {
  readonly asked: AsRequest
  readonly kdc: Kdc
  readonly keys: readonly UsableKey[]
  /** The salt of the keys, where known. */
  readonly salt: string | undefined
  /** What the KDC said of its keys when it demanded pre-authentication; absent where it did not. */
  readonly info: readonly EnctypeInfo[] | undefined
  /** By what the KDC said of its clock; 0 where it said nothing. */
  readonly clockSkew: number
  readonly now: number
}

/** Key usage of the encrypted part of an AS-REP (RFC 4120 7.5.1). */
const USAGE_AS_REPLY = 3
/** How far the KDC's two statements of its time may be apart; the first was not authenticated. */
const MAX_SKEW = 5 * 60_000
/** The rounds of string-to-key that are never changed in practice, big-endian (RFC 3962 4, RFC 8009 4). */
const ROUNDS: Readonly<Partial<Record<EnctypeNumber, number>>> = { 17: 4096, 18: 4096, 19: 32_768, 20: 32_768 }

/**
 * Opens and verifies an AS-REP (RFC 4120 3.1.5): it is for this client and this request, made by one who has the
 * client's key, and its times make sense. Throws STORE_DENIED, bad-password, where the key does not open it, and
 * STORE_UNAVAILABLE, protocol or clock, where it is not what was asked for.
 */
export function acceptReply(reply: AsReply, context: Asked): Ticket {
  const { asked, kdc, keys, salt } = context
  if (!isSamePrincipal(reply.client, asked.client)) throw wrong('a ticket for another client')
  const key = keys.find(({ enctype }) => enctype === reply.encrypted.enctype)
  if (!key) throw wrong('a reply of an enctype that was not asked for')
  const part = open(reply, key, context)
  const skew = verify(part, reply, context)
  const info = context.info ?? findEnctypeInfo(reply.preauth)
  const { kvno } = reply.encrypted
  return {
    credential: credentialOf(part, reply, asked),
    kdc: kdcName(kdc),
    enctype: key.enctype,
    ...(kvno !== undefined && { kvno }),
    clockSkew: skew,
    notes: [
      ...compareInfo(info, key.enctype, salt),
      ...(kvno !== undefined && key.kvno !== undefined && kvno !== key.kvno ? (['other-kvno'] as const) : []),
    ],
  }
}

function open({ encrypted }: AsReply, key: UsableKey, { asked, kdc }: Asked): ReplyPart {
  const plaintext = decrypt(key.enctype, key.key.reveal(), USAGE_AS_REPLY, encrypted.cipher)
  if (!plaintext) {
    // With a timestamp under the same key the KDC has shown that it has it.
    if (asked.preauth.length > 0) throw wrong('a reply that the key it has just accepted does not open')
    throw sealedReply(asked.client, kdc)
  }
  try {
    return parseReplyPart(plaintext)
  } finally {
    plaintext.fill(0)
  }
}

/** Throws unless the reply fits the request. How far the KDC's clock is ahead, in ms. */
function verify(part: ReplyPart, reply: AsReply, { asked, clockSkew, now, info }: Asked): number {
  const { sessionKey, nonce, server, authTime, startTime = authTime, endTime, renewTill = 0 } = part
  if (nonce !== asked.nonce) throw wrong('a reply to another request')
  if (!isSamePrincipal(server, asked.server) || !isSamePrincipal(reply.ticketServer, asked.server)) {
    throw wrong('a ticket for another service')
  }
  const enctype = enctypeOf(sessionKey.enctype)
  if (!asked.enctypes.includes(sessionKey.enctype) || sessionKey.key.byteLength !== enctype?.keyLength) {
    throw wrong('a session key that was not asked for')
  }
  const { renewTill: wanted = Infinity } = asked
  if (endTime > asked.till || endTime <= startTime || renewTill > wanted) throw wrong('a ticket for another time')
  // It says nothing of its clock before a reply without pre-authentication.
  const told = info ? clockSkew : authTime - now
  if (Math.abs(authTime - (now + told)) <= MAX_SKEW) return told
  throw new GmsaError('STORE_UNAVAILABLE', 'the KDC names one time and then another', { reason: 'clock' })
}

const isRenewable = ({ flags }: ReplyPart) => (flags & KDC_FLAGS.renewable) !== 0

function credentialOf(part: ReplyPart, { client, ticket }: AsReply, { server }: AsRequest): Credential {
  const { sessionKey, flags, authTime, startTime = authTime, endTime, renewTill = 0 } = part
  const seconds = (time: number) => Math.floor(time / 1000)
  return {
    client,
    server,
    sessionKey,
    authTime: seconds(authTime),
    startTime: seconds(startTime),
    endTime: seconds(endTime),
    renewTill: isRenewable(part) ? seconds(renewTill) : 0,
    isSkey: false,
    flags,
    addresses: [],
    authorizationData: [],
    ticket,
    secondTicket: new Uint8Array(),
  }
}

/** What is odd about salt and rounds, which nobody has authenticated. */
function compareInfo(info: readonly EnctypeInfo[], enctype: EnctypeNumber, salt: string | undefined): TicketNote[] {
  const parameters = info.find((each) => each.enctype === enctype)?.parameters
  const rounds = parameters?.length === 4 ? Buffer.from(parameters).readUInt32BE() : undefined
  return [
    ...(otherSalt(info, enctype, salt) === undefined ? [] : (['other-salt'] as const)),
    ...(rounds === undefined || rounds === ROUNDS[enctype] ? [] : (['other-rounds'] as const)),
  ]
}

/** The KDC's salt for keys of an enctype, where it is not `salt`. Keys of RC4 have none. */
export function otherSalt(
  info: readonly EnctypeInfo[],
  enctype: EnctypeNumber,
  salt: string | undefined,
): string | undefined {
  const theirs = info.find((each) => each.enctype === enctype)?.salt
  return enctype === 23 || salt === undefined || theirs === salt ? undefined : theirs
}

function wrong(what: string): GmsaError {
  return new GmsaError('STORE_UNAVAILABLE', `the KDC sends ${what}`, { reason: 'protocol' })
}
