import { GmsaError } from '../base/errors.ts'
import { Secret } from '../base/secret.ts'

/**
 * The fields of an MSDS-MANAGEDPASSWORD_BLOB ([MS-ADTS] 2.2.19). Passwords are UTF-16LE as the directory made them:
 * random code units, not text, without the terminator.
 */
export interface PasswordBlob {
  readonly current: Secret
  /** Absent where the directory gives none: it computes it, so even a previous password may never have been in use. */
  readonly previous?: Secret
  /** Until the reader must ask again, in 100 ns. */
  readonly queryInterval: bigint
  /** How long every read returns this same `current`, in 100 ns. */
  readonly unchangedInterval: bigint
}

/** Legal, and never seen from a domain controller: worth a line in the log. */
export type BlobOddity = 'reserved-not-zero' | 'password-length'

export interface ParsedPasswordBlob extends PasswordBlob {
  readonly oddities: readonly BlobOddity[]
}

/** Eight times what a domain controller sends; offsets could reach 64 KiB. */
export const MAX_BLOB_BYTES = 4096

const VERSION = 1
const HEADER = 16
const INTERVAL = 8
/** Every password a directory ever made has this many bytes. */
const PASSWORD = 256
/** The specification asks for 64-bit alignment of the intervals, and nobody aligns them. */
const ALIGNMENT = 8

/**
 * Reads msDS-ManagedPassword strictly. The passwords are copies: the caller may wipe `bytes`.
 *
 * A password ends at its 256 bytes where a terminator follows them, else at the first NUL unit; between terminator
 * and next field there is room for alignment and no more, so no password is ever cut short at a NUL within it.
 * Throws MATERIAL_MALFORMED that names the field and never quotes it.
 */
export function parseManagedPassword(bytes: Uint8Array): ParsedPasswordBlob {
  const blob = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (blob.length < HEADER || blob.length > MAX_BLOB_BYTES) {
    throw malformed(`expected ${HEADER} to ${MAX_BLOB_BYTES} bytes`)
  }
  if (blob.readUInt16LE(0) !== VERSION) throw malformed('version is not 1')
  if (blob.readUInt32LE(4) !== blob.length) throw malformed('Length is not the length of the value')
  const [current, previous, query, unchanged] = [8, 10, 12, 14].map((at) => blob.readUInt16LE(at)) as Offsets
  const passwordsEnd = previous === 0 ? query : previous
  if (current < HEADER || current >= passwordsEnd || passwordsEnd > query) throw malformed('offsets out of order')
  if (query + INTERVAL > unchanged || unchanged + INTERVAL > blob.length) throw malformed('offsets out of order')
  const currentBytes = passwordAt(blob.subarray(current, passwordsEnd), 'CurrentPassword')
  const previousBytes = previous === 0 ? undefined : passwordAt(blob.subarray(previous, query), 'PreviousPassword')
  const oddities: BlobOddity[] = []
  if (blob.readUInt16LE(2) !== 0) oddities.push('reserved-not-zero')
  if ([currentBytes, previousBytes].some((each) => each && each.length !== PASSWORD)) oddities.push('password-length')
  return {
    current: new Secret(Uint8Array.from(currentBytes)),
    ...(previousBytes && { previous: new Secret(Uint8Array.from(previousBytes)) }),
    queryInterval: blob.readBigUInt64LE(query),
    unchangedInterval: blob.readBigUInt64LE(unchanged),
    oddities,
  }
}

type Offsets = [current: number, previous: number, query: number, unchanged: number]

/** The password at the start of `field`, which reaches to the next field. */
function passwordAt(field: Buffer, name: string): Buffer {
  const length = isNul(field, PASSWORD) ? PASSWORD : firstNul(field)
  if (length === undefined) throw malformed(`${name} has no terminator`)
  if (length === 0) throw malformed(`${name} is empty`)
  if (field.length >= length + 2 + ALIGNMENT) throw malformed(`${name} holds a NUL`)
  return field.subarray(0, length)
}

const isNul = (field: Buffer, at: number) => at + 2 <= field.length && field.readUInt16LE(at) === 0

function firstNul(field: Buffer): number | undefined {
  for (let at = 0; at + 2 <= field.length; at += 2) {
    if (isNul(field, at)) return at
  }
  return undefined
}

/**
 * Writes a blob as domain controllers do: header, passwords with their terminators, intervals without padding. The
 * caller owns the bytes and keeps them as secret as the passwords. Throws RangeError for passwords that are empty, of
 * odd length or with a NUL unit, for intervals of more than 64 bits, and where all of it is longer than 4,096 bytes.
 */
export function formatManagedPassword({ current, previous, queryInterval, unchangedInterval }: PasswordBlob): Buffer {
  for (const [name, password] of Object.entries({ current, previous })) {
    if (password && !isPassword(password.reveal())) throw new RangeError(`${name} is no managed password`)
  }
  for (const [name, interval] of Object.entries({ queryInterval, unchangedInterval })) {
    if (BigInt.asUintN(64, interval) !== interval) throw new RangeError(`${name} has more than 64 bits`)
  }
  const previousOffset = HEADER + current.byteLength + 2
  const queryOffset = previousOffset + (previous ? previous.byteLength + 2 : 0)
  const length = queryOffset + 2 * INTERVAL
  if (length > MAX_BLOB_BYTES) throw new RangeError(`more than ${MAX_BLOB_BYTES} bytes`)
  const blob = Buffer.alloc(length)
  blob.writeUInt16LE(VERSION, 0)
  blob.writeUInt32LE(length, 4)
  const offsets = [HEADER, previous ? previousOffset : 0, queryOffset, queryOffset + INTERVAL]
  offsets.forEach((offset, index) => {
    blob.writeUInt16LE(offset, 8 + 2 * index)
  })
  blob.set(current.reveal(), HEADER)
  if (previous) blob.set(previous.reveal(), previousOffset)
  blob.writeBigUInt64LE(queryInterval, queryOffset)
  blob.writeBigUInt64LE(unchangedInterval, queryOffset + INTERVAL)
  return blob
}

function isPassword(bytes: Uint8Array): boolean {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return view.length > 0 && view.length % 2 === 0 && firstNul(view) === undefined
}

/**
 * UTF-16LE to UTF-8, as Windows does it before AES string-to-key: each unpaired surrogate becomes U+FFFD, all else
 * stays what it is, U+FEFF at the start too. Bytes to bytes, because a string could not be wiped; the caller owns
 * the result. Throws RangeError where the length is odd.
 */
export function utf16ToUtf8(utf16: Uint8Array): Buffer {
  if (utf16.length % 2 !== 0) throw new RangeError('utf16 must have an even number of bytes')
  const units = new DataView(utf16.buffer, utf16.byteOffset, utf16.byteLength)
  // Three bytes a unit at most: a pair, which is two units, takes four.
  const room = Buffer.alloc((utf16.length / 2) * 3)
  let end = 0
  for (let at = 0; at < utf16.length; at += 2) {
    let point = units.getUint16(at, true)
    const low = at + 2 < utf16.length ? units.getUint16(at + 2, true) : 0
    if (isHighSurrogate(point) && isLowSurrogate(low)) {
      point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00)
      at += 2
    } else if (isHighSurrogate(point) || isLowSurrogate(point)) {
      point = 0xfffd
    }
    end = writeUtf8(room, end, point)
  }
  const utf8 = Buffer.alloc(end)
  room.copy(utf8)
  room.fill(0)
  return utf8
}

const isHighSurrogate = (unit: number) => unit >= 0xd800 && unit < 0xdc00
const isLowSurrogate = (unit: number) => unit >= 0xdc00 && unit < 0xe000

/** The first byte's upper bits, by how many bytes follow it. */
const LEADS = [0, 0xc0, 0xe0, 0xf0]

/** Writes one code point (RFC 3629 3) and answers where the next one goes. */
function writeUtf8(buffer: Buffer, at: number, point: number): number {
  if (point < 0x80) return buffer.writeUInt8(point, at)
  const more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3
  let end = buffer.writeUInt8((LEADS[more] ?? 0) | (point >> (6 * more)), at)
  for (let shift = 6 * (more - 1); shift >= 0; shift -= 6)
    end = buffer.writeUInt8(0x80 | ((point >> shift) & 0x3f), end)
  return end
}

function malformed(problem: string): GmsaError {
  return new GmsaError('MATERIAL_MALFORMED', `managed password: ${problem}`)
}
