import { GmsaError } from '../base/errors.ts'
import { Secret } from '../base/secret.ts'
import {
  applicationTag,
  contentOf,
  DER,
  readDer,
  readDerElement,
  readDerInteger,
  writeDer,
  writeDerInteger,
} from '../crypto/der.ts'
import {
  type EncryptedData,
  type Fields,
  readEncrypted,
  readFields,
  readFlags,
  readMessage,
  readOctets,
  readPrincipal,
  readRow,
  readText,
  readTime,
  readUnsigned,
  writeEncrypted,
  writeFields,
  writeFlags,
  writeName,
  writeOctets,
  writeText,
  writeTime,
} from './asn1.ts'
import type { Principal } from './principal.ts'

/** Far above what a ticket with a large PAC needs; nothing larger is read from a socket either. */
export const MAX_MESSAGE_BYTES = 1 << 17

const PVNO = 5
/** msg-type and at the same time the application tag of each message (RFC 4120 5.10). */
const AS_REQ = 10
const AS_REP = 11
const KRB_ERROR = 30
/** A KDC may encrypt its answer under either of these tags (5.4.2). */
const ENC_AS_REP_PART = 25
const ENC_TGS_REP_PART = 26
const TICKET = 1
/** Kinds of ETYPE-INFO2 entries and of pre-authentication methods that anybody sends. */
const MAX_ROW = 64

/** padata-type (RFC 4120 7.5.2, RFC 6113 5.2). */
const PA_ENC_TIMESTAMP = 2
const PA_ETYPE_INFO2 = 19
export const PA_FX_COOKIE = 133

/** data-type of KERB-EXT-ERROR ([MS-KILE] 2.2.2); as a padata-type it would be PA-PW-SALT. */
const KERB_ERR_TYPE_EXTENDED = 3

/** Bits of KDCOptions, and where they mean the same, of TicketFlags (5.4.1, 5.3). */
export const KDC_FLAGS = { forwardable: 0x4000_0000, renewable: 0x0080_0000 } as const

/** Runs a parser whose parts throw RangeError; none of them quotes what it read. */
function parsing<T>(what: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new GmsaError('STORE_UNAVAILABLE', `${what}: ${error.message}`, { cause: error, reason: 'protocol' })
  }
}

/** PA-DATA (5.2.7). */
export interface PreauthData {
  readonly type: number
  readonly value: Uint8Array
}

/** What an AS-REQ asks for; times are in ms since 1970 and go out in whole seconds. */
export interface AsRequest {
  readonly client: Principal
  readonly server: Principal
  readonly options: number
  readonly till: number
  readonly renewTill?: number
  /** 31 bits: some KDCs take it for a number with a sign. */
  readonly nonce: number
  /** The preferred first. */
  readonly enctypes: readonly number[]
  readonly preauth: readonly PreauthData[]
}

/** An AS-REQ (5.4.1). */
export function encodeAsRequest(request: AsRequest): Buffer {
  const { client, server, options, till, renewTill, nonce, enctypes, preauth } = request
  const body = writeFields({
    0: writeFlags(options),
    1: writeName(client),
    2: writeText(server.realm),
    3: writeName(server),
    5: writeTime(till),
    6: renewTill === undefined ? undefined : writeTime(renewTill),
    7: writeDerInteger(nonce),
    8: writeDer(DER.sequence, ...enctypes.map(writeDerInteger)),
  })
  const padata = preauth.map(({ type, value }) => writeFields({ 1: writeDerInteger(type), 2: writeOctets(value) }))
  const message = writeFields({
    1: writeDerInteger(PVNO),
    2: writeDerInteger(AS_REQ),
    3: padata.length === 0 ? undefined : writeDer(DER.sequence, ...padata),
    4: body,
  })
  return writeDer(applicationTag(AS_REQ), message)
}

/** PA-ENC-TS-ENC (5.2.7.2), still to be encrypted; `time` is in ms since 1970. */
export function encodeTimestamp(time: number): Buffer {
  return writeFields({ 0: writeTime(time), 1: writeDerInteger((time % 1000) * 1000) })
}

/** The value of PA-ENC-TIMESTAMP: EncryptedData. */
export const encodeEncryptedTimestamp = (data: EncryptedData): PreauthData => ({
  type: PA_ENC_TIMESTAMP,
  value: writeEncrypted(data),
})

/** A KRB-ERROR (5.9.1). Nobody has signed it: whoever sits on the way may have written it. */
export interface KerberosError {
  readonly code: number
  /** The KDC's clock, in ms since 1970. */
  readonly time: number
  /** The realm that knows the client, where the answer is a referral (RFC 6806 7). */
  readonly clientRealm?: string
  readonly data?: Uint8Array
}

/** An AS-REP (5.4.2), of which only the length of the encrypted part is certain before that is opened. */
export interface AsReply {
  readonly client: Principal
  /** The Ticket as it came: DER, opaque to a client. */
  readonly ticket: Uint8Array
  readonly ticketServer: Principal
  readonly encrypted: EncryptedData
  readonly preauth: readonly PreauthData[]
}

export type KdcReply = ({ readonly kind: 'reply' } & AsReply) | ({ readonly kind: 'error' } & KerberosError)

/**
 * Reads what a KDC answers to an AS-REQ. Throws STORE_UNAVAILABLE, protocol, for anything else, and for what is not
 * strict DER of the fields that RFC 4120 has for it. Fields it does not have are passed over.
 */
export function parseKdcReply(bytes: Uint8Array): KdcReply {
  return parsing('AS-REP or KRB-ERROR', () => {
    if (bytes.length > MAX_MESSAGE_BYTES) throw new RangeError('a message too long')
    if (bytes[0] === applicationTag(KRB_ERROR)) return { kind: 'error', ...readError(bytes) }
    return { kind: 'reply', ...readReply(bytes) }
  })
}

function readError(bytes: Uint8Array): KerberosError {
  const fields = readMessage(bytes, applicationTag(KRB_ERROR))
  requireType(fields, 0, KRB_ERROR)
  const [clientRealm, data] = [fields.get(7), fields.get(12)]
  return {
    code: readDerInteger(fields.get(6)),
    time: readTime(fields.get(4)) + Math.floor(readUnsigned(fields.get(5)) / 1000),
    ...(clientRealm && { clientRealm: readText(clientRealm) }),
    ...(data && { data: readOctets(data) }),
  }
}

function readReply(bytes: Uint8Array): AsReply {
  const fields = readMessage(bytes, applicationTag(AS_REP))
  requireType(fields, 0, AS_REP)
  const ticket = fields.get(5)?.encoded ?? new Uint8Array()
  const ticketFields = readMessage(ticket, applicationTag(TICKET))
  return {
    client: readPrincipal(fields.get(3), fields.get(4)),
    ticket: Uint8Array.from(ticket),
    ticketServer: readPrincipal(ticketFields.get(1), ticketFields.get(2)),
    encrypted: readEncrypted(fields.get(6)),
    preauth: fields.has(2) ? readPreauth(readRow(fields.get(2))) : [],
  }
}

function requireType(fields: Fields, at: number, type: number): void {
  if (readDerInteger(fields.get(at)) !== PVNO) throw new RangeError('not version 5')
  if (readDerInteger(fields.get(at + 1)) !== type) throw new RangeError('a message of another type')
}

function readPreauth(row: ReturnType<typeof readRow>): PreauthData[] {
  if (row.length > MAX_ROW) throw new RangeError('too many kinds of pre-authentication')
  return row.map((element) => {
    const fields = readFields(element)
    return { type: readDerInteger(fields.get(1)), value: readOctets(fields.get(2)) }
  })
}

/** The METHOD-DATA (5.9.1) in the error that asks for pre-authentication. Throws as {@link parseKdcReply}. */
export function parseMethodData(bytes: Uint8Array): PreauthData[] {
  return parsing('METHOD-DATA', () => readPreauth(readDer(readDerElement(bytes, DER.sequence))))
}

/**
 * The NTSTATUS that Active Directory puts beside some errors (KERB-EXT-ERROR, [MS-KILE] 2.2.1), from the error's data:
 * either a KERB-ERROR-DATA (2.2.2), which looks like one PA-DATA, or one such among several. Undefined where there is
 * none, whatever the data are.
 */
export function findNtStatus(data: Uint8Array | undefined): number | undefined {
  for (const read of [parseMethodData, parseErrorData]) {
    try {
      const value = data && read(data).find(({ type }) => type === KERB_ERR_TYPE_EXTENDED)?.value
      if (value?.length === 12) return Buffer.from(value).readUInt32LE()
    } catch {
      // Of another form: most errors carry none, or text.
    }
  }
  return undefined
}

const parseErrorData = (bytes: Uint8Array) => parsing('KERB-ERROR-DATA', () => readPreauth(readDer(bytes)))

/** One entry of ETYPE-INFO2 (5.2.7.5). */
export interface EnctypeInfo {
  readonly enctype: number
  readonly salt?: string
  /** Parameters of string-to-key; the number of rounds, for AES. */
  readonly parameters?: Uint8Array
}

/** ETYPE-INFO2 (5.2.7.5), the KDC's preferred first. Throws as {@link parseKdcReply}. */
function parseEnctypeInfo(bytes: Uint8Array): EnctypeInfo[] {
  return parsing('ETYPE-INFO2', () => {
    const row = readDer(readDerElement(bytes, DER.sequence))
    if (row.length > MAX_ROW) throw new RangeError('too many enctypes')
    return row.map((element) => {
      const fields = readFields(element)
      const [salt, parameters] = [fields.get(1), fields.get(2)]
      return {
        enctype: readDerInteger(fields.get(0)),
        ...(salt && { salt: Buffer.from(contentOf(salt, DER.generalString)).toString('utf8') }),
        ...(parameters && { parameters: readOctets(parameters) }),
      }
    })
  })
}

/** ETYPE-INFO2 among methods of pre-authentication; empty where there is none. Throws as {@link parseKdcReply}. */
export function findEnctypeInfo(methods: readonly PreauthData[]): EnctypeInfo[] {
  const found = methods.find(({ type }) => type === PA_ETYPE_INFO2)
  return found ? parseEnctypeInfo(found.value) : []
}

/** EncKDCRepPart (5.4.2): what the KDC says under the client's key. Times are in ms since 1970. */
export interface ReplyPart {
  readonly sessionKey: { readonly enctype: number; readonly key: Secret }
  readonly nonce: number
  /** TicketFlags: bit 0 of the specification is the highest. */
  readonly flags: number
  readonly authTime: number
  readonly startTime?: number
  readonly endTime: number
  readonly renewTill?: number
  readonly server: Principal
}

/**
 * Reads the decrypted part of an AS-REP; the session key is a copy: the caller wipes `bytes`. A KDC may use the tag of
 * a TGS-REP as well. Throws as {@link parseKdcReply}.
 */
export function parseReplyPart(bytes: Uint8Array): ReplyPart {
  return parsing('encrypted part of the AS-REP', () => {
    const tag = applicationTag(bytes[0] === applicationTag(ENC_TGS_REP_PART) ? ENC_TGS_REP_PART : ENC_AS_REP_PART)
    const fields = readMessage(bytes, tag)
    const [startTime, renewTill] = [fields.get(6), fields.get(8)]
    return {
      sessionKey: readKey(fields),
      nonce: readUnsigned(fields.get(2)),
      flags: readFlags(fields.get(4)),
      authTime: readTime(fields.get(5)),
      ...(startTime && { startTime: readTime(startTime) }),
      endTime: readTime(fields.get(7)),
      ...(renewTill && { renewTill: readTime(renewTill) }),
      server: readPrincipal(fields.get(9), fields.get(10)),
    }
  })
}

function readKey(fields: Fields): ReplyPart['sessionKey'] {
  const key = readFields(fields.get(0))
  return { enctype: readDerInteger(key.get(0)), key: new Secret(Uint8Array.from(readOctets(key.get(1)))) }
}
