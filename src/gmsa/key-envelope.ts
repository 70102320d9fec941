import { GmsaError } from '../base/errors.ts'
import { LAST_INDEX, MAX_L0 } from '../crypto/gkdi.ts'
import type { Gkid } from './gkid.ts'
import { formatGuid, parseGuid } from './guid.ts'

/** What both envelopes of [MS-GKDI] begin with: which root key, and which cycle. */
export interface KeyHeader {
  /** 1: transports a public key. 2: may encrypt new data, as on all gMSAs. */
  readonly flags: number
  readonly gkid: Gkid
  /** GUID of the root key, in lower case. */
  readonly rootKeyId: string
}

const VERSION = 1
/** `KDSK`. */
const MAGIC = 0x4b53444b
/** Version, magic, flags, L0, L1, L2, and the GUID; then come numbers in 32 bits each. All is little-endian. */
const HEADER_BYTES = 40
/** More than any envelope needs: names take 1 KiB at most, agreement parameters less. */
export const MAX_ENVELOPE_BYTES = 16 * 1024

/** An envelope taken apart: its header, the numbers after it, and all that follows these. */
export interface OpenEnvelope {
  readonly header: KeyHeader
  readonly numbers: readonly number[]
  readonly rest: Buffer
}

/** Opens an envelope with so many numbers after its header. Throws MATERIAL_MALFORMED that names the field. */
export function openEnvelope(bytes: Uint8Array, count: number): OpenEnvelope {
  const envelope = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const start = HEADER_BYTES + 4 * count
  if (envelope.length < start || envelope.length > MAX_ENVELOPE_BYTES) {
    throw malformed(`expected ${start} to ${MAX_ENVELOPE_BYTES} bytes`)
  }
  if (envelope.readUInt32LE(0) !== VERSION) throw malformed('version is not 1')
  if (envelope.readUInt32LE(4) !== MAGIC) throw malformed('magic is not KDSK')
  const [l0 = 0, l1 = 0, l2 = 0] = [12, 16, 20].map((at) => envelope.readInt32LE(at))
  if (!isWithin(l0, MAX_L0) || !isWithin(l1, LAST_INDEX) || !isWithin(l2, LAST_INDEX)) {
    throw malformed('L0, L1 or L2 is out of range')
  }
  const rootKeyId = formatGuid(envelope.subarray(24, HEADER_BYTES))
  return {
    header: { flags: envelope.readUInt32LE(8), gkid: { l0, l1, l2 }, rootKeyId },
    numbers: Array.from({ length: count }, (_, index) => envelope.readUInt32LE(HEADER_BYTES + 4 * index)),
    rest: envelope.subarray(start),
  }
}

/** The parts of these lengths, which reach from the start of `rest` to its end. Throws MATERIAL_MALFORMED. */
export function splitParts(rest: Buffer, lengths: readonly number[]): Buffer[] {
  let at = 0
  const parts = lengths.map((length) => {
    if (length > rest.length - at) throw malformed('a length reaches beyond the end')
    at += length
    return rest.subarray(at - length, at)
  })
  if (at !== rest.length) throw malformed('bytes are left over')
  return parts
}

/** A name in UTF-16LE with its terminator, and no other NUL. Throws MATERIAL_MALFORMED. */
export function readName(bytes: Buffer, field: string): string {
  if (bytes.length < 2 || bytes.length % 2 !== 0) throw malformed(`${field} is no UTF-16 text`)
  const text = bytes.toString('utf16le')
  if (text.indexOf('\0') !== text.length - 1) throw malformed(`${field} does not end at its one terminator`)
  return text.slice(0, -1)
}

export const writeName = (name: string): Buffer => Buffer.from(`${name}\0`, 'utf16le')

/** Puts an envelope together. Throws RangeError where an index is out of range or all of it is too long. */
export function closeEnvelope(header: KeyHeader, numbers: readonly number[], parts: readonly Uint8Array[]): Buffer {
  const { l0, l1, l2 } = header.gkid
  if (!isWithin(l0, MAX_L0) || !isWithin(l1, LAST_INDEX) || !isWithin(l2, LAST_INDEX)) {
    throw new RangeError('L0, L1 or L2 is out of range')
  }
  const start = Buffer.alloc(HEADER_BYTES + 4 * numbers.length)
  for (const [index, value] of [VERSION, MAGIC, header.flags, l0, l1, l2].entries()) {
    start.writeUInt32LE(value, 4 * index)
  }
  start.set(parseGuid(header.rootKeyId), 24)
  for (const [index, value] of numbers.entries()) start.writeUInt32LE(value, HEADER_BYTES + 4 * index)
  const length = parts.reduce((sum, part) => sum + part.length, start.length)
  if (length > MAX_ENVELOPE_BYTES) throw new RangeError(`more than ${MAX_ENVELOPE_BYTES} bytes`)
  // Not Buffer.concat: its bytes may stand in a pool shared with others, and a part can be a key.
  const envelope = Buffer.alloc(length)
  let at = 0
  for (const part of [start, ...parts]) {
    envelope.set(part, at)
    at += part.length
  }
  return envelope
}

const isWithin = (value: number, most: number) => Number.isInteger(value) && value >= 0 && value <= most

/** MATERIAL_MALFORMED about an envelope. */
export function malformed(problem: string): GmsaError {
  return new GmsaError('MATERIAL_MALFORMED', `key envelope: ${problem}`)
}
