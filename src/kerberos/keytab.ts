import { GmsaError } from '../base/errors.ts'
import { Secret } from '../base/secret.ts'
import { enctypeName, enctypeOf } from './enctype.ts'
import type { Principal } from './principal.ts'

/** One key in a keytab. */
export interface KeytabEntry {
  readonly principal: Principal
  /** Seconds since 1970, 32 bits. */
  readonly timestamp: number
  /** 32 bits. Readers take 0 for "any", so no key of ours is ever written under it. */
  readonly kvno: number
  /** A number of the IANA registry, 16 bits signed; not only those in our own list. */
  readonly enctype: number
  readonly key: Secret
}

/** Room for some ten thousand keys. */
export const MAX_KEYTAB_BYTES = 1 << 20

const VERSION = 0x0502
const OLD_VERSION = 0x0501
const MAX_PART = 0xffff
const MAX_32 = 0xffff_ffff

/**
 * Reads a MIT keytab of version 0x0502, all numbers big-endian: a row of slots, each a length and as many bytes; a
 * negative length is a hole, and 0 ends the file. Keeps unknown enctypes; the keys are copies of their own.
 *
 * Throws MATERIAL_MALFORMED that names the offset and never quotes the file: for another version (0x0501 has the
 * byte order of the machine that wrote it), for anything cut off, and for a key of another length than its enctype has.
 */
export function parseKeytab(bytes: Uint8Array): KeytabEntry[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (buffer.length > MAX_KEYTAB_BYTES) throw malformed('more than 1 MiB')
  const version = buffer.length < 2 ? undefined : buffer.readUInt16BE(0)
  if (version === OLD_VERSION) throw malformed('version 0x0501, whose byte order is not known; expected 0x0502')
  if (version !== VERSION) throw malformed('no keytab: expected version 0x0502 at its start')
  const entries: KeytabEntry[] = []
  let offset = 2
  while (offset < buffer.length) {
    if (buffer.length - offset < 4) throw malformed(`cut off at ${offset}`)
    const length = buffer.readInt32BE(offset)
    offset += 4
    if (length === 0) break
    if (Math.abs(length) > buffer.length - offset) throw malformed(`cut off at ${offset}`)
    if (length > 0) entries.push(parseEntry(buffer.subarray(offset, offset + length), offset))
    offset += Math.abs(length)
  }
  return entries
}

/** Reads one slot; `start` is where it stands in the file, for messages. */
function parseEntry(slot: Buffer, start: number): KeytabEntry {
  const read = reader(slot, start)
  const count = read.uint(2)
  // The realm comes before the components and is not counted.
  const [realm = '', ...components] = Array.from({ length: count + 1 }, () => read.text())
  if (count === 0) throw malformed(`a principal without components at ${start}`)
  const nameType = read.uint(4)
  const timestamp = read.uint(4)
  const low = read.uint(1)
  const enctype = (read.uint(2) << 16) >> 16
  const key = new Secret(Uint8Array.from(read.counted()))
  const expected = enctypeOf(enctype)?.keyLength
  if (key.byteLength === 0 || (expected !== undefined && key.byteLength !== expected)) {
    throw malformed(`a key of wrong length for ${enctypeName(enctype)} at ${start}`)
  }
  // The 32-bit kvno came later (MIT 1.14): it counts where it is there and not 0. What follows it is padding.
  const long = read.left() >= 4 ? read.uint(4) : 0
  return { principal: { realm, components, nameType }, timestamp, kvno: long || low, enctype, key }
}

/** Takes fields off a slot, one after the other, and never goes past its end. */
function reader(slot: Buffer, start: number) {
  let at = 0
  function take(length: number): Buffer {
    if (length > slot.length - at) throw malformed(`a field that does not fit its slot at ${start + at}`)
    at += length
    return slot.subarray(at - length, at)
  }
  const uint = (length: number) => take(length).readUIntBE(0, length)
  const counted = () => take(uint(2))
  return {
    uint,
    counted,
    left: () => slot.length - at,
    text(): string {
      const part = counted()
      const text = part.toString('utf8')
      if (part.length === 0) throw malformed(`an empty part of a principal at ${start + at}`)
      // Bytes that are no UTF-8 would come out as others when the file is written again.
      if (!Buffer.from(text, 'utf8').equals(part)) throw malformed(`a principal that is not UTF-8 at ${start + at}`)
      return text
    },
  }
}

/**
 * Writes a keytab of version 0x0502 in MIT's layout: the order of the entries is kept, the 32-bit kvno is always
 * there, no holes. The same entries give the same bytes. The caller owns the bytes and keeps them as secret as the
 * keys. Throws MATERIAL_MALFORMED for what the format can't hold, naming the field.
 */
export function encodeKeytab(entries: readonly KeytabEntry[]): Buffer {
  const slots = entries.map(layOut)
  const total = slots.reduce((sum, { size }) => sum + 4 + size, 2)
  if (total > MAX_KEYTAB_BYTES) throw malformed('more than 1 MiB')
  // Written at once into a buffer of its own: no copies of keys in between, none in a shared pool.
  const file = Buffer.alloc(total)
  let at = file.writeUInt16BE(VERSION)
  for (const { size, fields } of slots) {
    at = file.writeInt32BE(size, at)
    for (const [value, length] of fields) {
      if (typeof value === 'number') at = file.writeUIntBE(value, at, length)
      else at += copyInto(file, value, at)
    }
  }
  return file
}

/** A number and the bytes it takes, or bytes as they are. */
type Field = readonly [value: number, length: number] | readonly [value: Uint8Array, length: number]

function layOut({ principal, timestamp, kvno, enctype, key }: KeytabEntry): { size: number; fields: Field[] } {
  const { components, realm, nameType } = principal
  if (components.length === 0) throw malformed('a principal without components')
  const fields: Field[] = [
    [whole('number of components', components.length, MAX_PART), 2],
    ...[realm, ...components].flatMap((part) => counted('part of a principal', textBytes(part))),
    [whole('name type', nameType, MAX_32), 4],
    [whole('timestamp', timestamp, MAX_32), 4],
    [whole('kvno', kvno, MAX_32) % 0x100, 1],
    [whole('enctype', enctype + 0x8000, MAX_PART) ^ 0x8000, 2],
    ...counted('key', keyBytes(key, enctype)),
    [kvno, 4],
  ]
  return { size: fields.reduce((sum, [, length]) => sum + length, 0), fields }
}

function keyBytes(key: Secret, enctype: number): Uint8Array {
  const expected = enctypeOf(enctype)?.keyLength
  if (expected !== undefined && key.byteLength !== expected) {
    throw malformed(`a key of wrong length for ${enctypeName(enctype)}`)
  }
  return key.reveal()
}

function textBytes(part: string): Uint8Array {
  if (!part.isWellFormed()) throw malformed('a principal that is not well-formed Unicode')
  return Buffer.from(part, 'utf8')
}

function counted(what: string, bytes: Uint8Array): Field[] {
  if (bytes.length === 0 || bytes.length > MAX_PART) throw malformed(`${what}: expected 1 to ${MAX_PART} bytes`)
  return [
    [bytes.length, 2],
    [bytes, bytes.length],
  ]
}

function whole(what: string, value: number, most: number): number {
  if (!Number.isSafeInteger(value) || value < 0 || value > most) throw malformed(`${what} out of range`)
  return value
}

function copyInto(file: Buffer, bytes: Uint8Array, at: number): number {
  file.set(bytes, at)
  return bytes.length
}

function malformed(problem: string): GmsaError {
  return new GmsaError('MATERIAL_MALFORMED', `keytab: ${problem}`)
}
