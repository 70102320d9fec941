import { GmsaError } from '../base/errors.ts'
import { Secret } from '../base/secret.ts'
import { enctypeName, enctypeOf } from './enctype.ts'
import type { Principal } from './principal.ts'

/** One ticket with its session key, or one entry of configuration (its server's realm is {@link CONFIG_REALM}). */
export interface Credential {
  readonly client: Principal
  readonly server: Principal
  readonly sessionKey: { readonly enctype: number; readonly key: Secret }
  /** Times are in seconds since 1970, 32 bits; 0 where there is none. */
  readonly authTime: number
  readonly startTime: number
  readonly endTime: number
  readonly renewTill: number
  /** TicketFlags (RFC 4120 5.3): bit 0 of the specification is the highest of 32. */
  readonly flags: number
  /** Whether the ticket is encrypted under the session key of `secondTicket`: user-to-user. */
  readonly isSkey: boolean
  readonly addresses: readonly TypedData[]
  readonly authorizationData: readonly TypedData[]
  /** The Ticket in DER, or the value of an entry of configuration. */
  readonly ticket: Uint8Array
  /** Empty but for user-to-user tickets. */
  readonly secondTicket: Uint8Array
}

export interface TypedData {
  /** 16 bits. */
  readonly type: number
  readonly data: Uint8Array
}

/** A credential cache: whose it is, and its tickets. */
export interface Ccache {
  readonly principal: Principal
  /** How far the KDC's clock is ahead of ours, in ms; whoever reads the file sets his own right by it. */
  readonly clockSkew?: number
  readonly credentials: readonly Credential[]
}

/** The realm of entries that are no tickets but configuration; they never expire. */
export const CONFIG_REALM = 'X-CACHECONF:'

/** Room for a hundred tickets of the largest size. */
export const MAX_CCACHE_BYTES = 1 << 22

const VERSION = 0x0504
/** The header's one tag: the KDC's time offset, in seconds and microseconds, 32 bits each. */
const TIME_OFFSET = 1
const MAX_16 = 0xffff

/**
 * Writes a credential cache file of version 4 in MIT's layout, all numbers big-endian. The same cache gives the same
 * bytes. The caller owns them and keeps them as secret as the session keys in them.
 * Throws MATERIAL_MALFORMED for what the format can't hold, naming the field.
 */
export function formatCcache({ principal, clockSkew, credentials }: Ccache): Buffer {
  const fields = [
    uint('version', VERSION, 2),
    ...headerFields(clockSkew),
    ...principalFields(principal),
    ...credentials.flatMap(credentialFields),
  ]
  const total = fields.reduce((sum, [, length]) => sum + length, 0)
  if (total > MAX_CCACHE_BYTES) throw malformed('more than 4 MiB')
  // Written at once into a buffer of its own: no copies of keys in between, none in a shared pool.
  const file = Buffer.alloc(total)
  let at = 0
  for (const [value, length] of fields) {
    if (typeof value === 'number') file.writeUIntBE(value, at, length)
    else file.set(value, at)
    at += length
  }
  return file
}

/** A number or bytes, and how many bytes it takes. */
type Field = readonly [value: number | Uint8Array, length: number]

function headerFields(clockSkew: number | undefined): Field[] {
  if (clockSkew === undefined) return [uint('header length', 0, 2)]
  // The first part has a sign, the second counts up from it.
  const seconds = Math.floor(clockSkew / 1000)
  const microseconds = Math.floor((clockSkew - seconds * 1000) * 1000)
  return [
    uint('header length', 12, 2),
    uint('tag', TIME_OFFSET, 2),
    uint('tag length', 8, 2),
    [signed('clock skew', seconds, 32) >>> 0, 4],
    uint('clock skew', microseconds, 4),
  ]
}

function principalFields({ nameType, realm, components }: Principal): Field[] {
  return [
    uint('name type', nameType, 4),
    uint('number of components', components.length, 4),
    ...[realm, ...components].flatMap((part) => counted(textBytes(part))),
  ]
}

function credentialFields(credential: Credential): Field[] {
  const { client, server, sessionKey, authTime, startTime, endTime, renewTill } = credential
  requireKeyLength(sessionKey)
  return [
    ...principalFields(client),
    ...principalFields(server),
    [signed('enctype', sessionKey.enctype, 16) & MAX_16, 2],
    ...counted(sessionKey.key.reveal()),
    ...[authTime, startTime, endTime, renewTill].map((time) => uint('time', time, 4)),
    uint('is_skey', Number(credential.isSkey), 1),
    uint('flags', credential.flags, 4),
    ...typedFields(credential.addresses),
    ...typedFields(credential.authorizationData),
    ...counted(credential.ticket),
    ...counted(credential.secondTicket),
  ]
}

function typedFields(row: readonly TypedData[]): Field[] {
  return [
    uint('number of addresses', row.length, 4),
    ...row.flatMap(({ type, data }) => [uint('type', type, 2), ...counted(data)]),
  ]
}

const counted = (bytes: Uint8Array): Field[] => [uint('length', bytes.length, 4), [bytes, bytes.length]]

function uint(what: string, value: number, length: number): Field {
  if (!Number.isSafeInteger(value) || value < 0 || value >= 2 ** (8 * length)) throw malformed(`${what} out of range`)
  return [value, length]
}

function signed(what: string, value: number, bits: number): number {
  const half = 2 ** (bits - 1)
  if (!Number.isSafeInteger(value) || value < -half || value >= half) throw malformed(`${what} out of range`)
  return value
}

function textBytes(part: string): Uint8Array {
  if (!part.isWellFormed()) throw malformed('a principal that is not well-formed Unicode')
  return Buffer.from(part, 'utf8')
}

/**
 * Reads a credential cache file of version 4 to its last byte. Tags of the header that are not known are passed over.
 * Keys and tickets are copies of their own. Throws MATERIAL_MALFORMED that names the offset and never quotes the file:
 * for another version (0x0501 and 0x0502 have the byte order of the machine that wrote them), and for anything cut off.
 */
export function parseCcache(bytes: Uint8Array): Ccache {
  if (bytes.length > MAX_CCACHE_BYTES) throw malformed('more than 4 MiB')
  const read = reader(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  if (read.left() < 4 || read.uint(2) !== VERSION) throw malformed('expected version 0x0504 at its start')
  const clockSkew = readHeader(read)
  const principal = readPrincipal(read)
  const credentials: Credential[] = []
  while (read.left() > 0) credentials.push(readCredential(read))
  return { principal, ...(clockSkew !== undefined && { clockSkew }), credentials }
}

type Reader = ReturnType<typeof reader>

/** Takes fields off the file, one after the other, and never goes past its end. */
function reader(file: Buffer) {
  let at = 0
  function take(length: number): Buffer {
    if (length > file.length - at) throw malformed(`cut off at ${at}`)
    at += length
    return file.subarray(at - length, at)
  }
  const uint = (length: number) => take(length).readUIntBE(0, length)
  return {
    take,
    uint,
    left: () => file.length - at,
    bytes: () => Uint8Array.from(take(uint(4))),
    text(): string {
      const part = take(uint(4))
      const text = part.toString('utf8')
      if (!Buffer.from(text, 'utf8').equals(part)) throw malformed(`a principal that is not UTF-8 at ${at}`)
      return text
    },
    /** As many elements as the number before them says, each of which takes at least `least` bytes. */
    row<T>(least: number, element: () => T): T[] {
      const count = uint(4)
      if (count * least > file.length - at) throw malformed(`cut off at ${at}`)
      return Array.from({ length: count }, element)
    },
  }
}

/** The clock skew in ms, where the header states one. */
function readHeader(read: Reader): number | undefined {
  const header = reader(read.take(read.uint(2)))
  let clockSkew: number | undefined
  while (header.left() > 0) {
    const tag = header.uint(2)
    const value = header.take(header.uint(2))
    if (tag !== TIME_OFFSET) continue
    if (value.length !== 8) throw malformed('a time offset of wrong length')
    clockSkew = value.readInt32BE(0) * 1000 + value.readInt32BE(4) / 1000
  }
  return clockSkew
}

function readPrincipal(read: Reader): Principal {
  const nameType = read.uint(4)
  // The realm comes before the components and is not counted.
  const count = read.uint(4)
  if (count * 4 > read.left()) throw malformed('a principal of too many parts')
  const realm = read.text()
  return { realm, components: Array.from({ length: count }, () => read.text()), nameType }
}

function readCredential(read: Reader): Credential {
  const typed = (): TypedData => ({ type: read.uint(2), data: read.bytes() })
  const credential = {
    client: readPrincipal(read),
    server: readPrincipal(read),
    sessionKey: { enctype: read.take(2).readInt16BE(0), key: new Secret(read.bytes()) },
    authTime: read.uint(4),
    startTime: read.uint(4),
    endTime: read.uint(4),
    renewTill: read.uint(4),
    isSkey: readBoolean(read),
    flags: read.uint(4),
    addresses: read.row(6, typed),
    authorizationData: read.row(6, typed),
    ticket: read.bytes(),
    secondTicket: read.bytes(),
  }
  requireKeyLength(credential.sessionKey)
  return credential
}

function readBoolean(read: Reader): boolean {
  const value = read.uint(1)
  if (value > 1) throw malformed('is_skey is neither 0 nor 1')
  return value === 1
}

function requireKeyLength({ enctype, key }: Credential['sessionKey']): void {
  const expected = enctypeOf(enctype)?.keyLength
  if (expected !== undefined && key.byteLength !== expected) {
    throw malformed(`a session key of wrong length for ${enctypeName(enctype)}`)
  }
}

function malformed(problem: string): GmsaError {
  return new GmsaError('MATERIAL_MALFORMED', `credential cache: ${problem}`)
}
