import {
  contentOf,
  contextTag,
  DER,
  type DerElement,
  readDer,
  readDerElement,
  readDerInteger,
  writeDer,
  writeDerInteger,
} from '../crypto/der.ts'
import type { Principal } from './principal.ts'

/** The conventions of RFC 4120 5.2 above DER. What reads throws RangeError only. */

/** Names have two or three parts in practice. */
const MAX_COMPONENTS = 8

/** The fields of a SEQUENCE by the numbers of their explicit tags. */
export type Fields = ReadonlyMap<number, DerElement>

/**
 * Reads the fields of a SEQUENCE: each in an explicit tag, in rising order, none twice. Numbers that nobody asks for
 * later are extensions and stay unread.
 */
export function readFields(element: DerElement | undefined): Fields {
  const fields = new Map<number, DerElement>()
  let last = -1
  for (const { tag, content } of readDer(contentOf(element, DER.sequence))) {
    const number = tag & 0x1f
    if (tag !== contextTag(number) || number <= last) throw new RangeError('fields out of order')
    const [inner, ...more] = readDer(content)
    if (!inner || more.length > 0) throw new RangeError(`field ${number} is not one element`)
    fields.set(number, inner)
    last = number
  }
  return fields
}

/** Writes a SEQUENCE of fields in the order of their numbers; those that are undefined are left out. */
export function writeFields(fields: Readonly<Record<number, Uint8Array | undefined>>): Buffer {
  const numbered = Object.entries(fields).flatMap(([number, value]) =>
    value === undefined ? [] : [writeDer(contextTag(Number(number)), value)],
  )
  return writeDer(DER.sequence, ...numbered)
}

/** The fields of the SEQUENCE within the one element `[APPLICATION n]` that `bytes` are. */
export function readMessage(bytes: Uint8Array, tag: number): Fields {
  const [sequence, ...more] = readDer(readDerElement(bytes, tag))
  if (more.length > 0) throw new RangeError('more than one SEQUENCE in a message')
  return readFields(sequence)
}

/** The elements of a SEQUENCE OF. */
export function readRow(element: DerElement | undefined): DerElement[] {
  return readDer(contentOf(element, DER.sequence))
}

/** UInt32 (5.2.4); some write what is above 2^31 with a sign. */
export function readUnsigned(element: DerElement | undefined): number {
  return readDerInteger(element) >>> 0
}

export function readOctets(element: DerElement | undefined): Uint8Array {
  return contentOf(element, DER.octetString)
}

export const writeOctets = (bytes: Uint8Array) => writeDer(DER.octetString, bytes)

/** KerberosString (5.2.1): a GeneralString of UTF-8, as everybody writes it, without NUL. */
export function readText(element: DerElement | undefined): string {
  const content = Buffer.from(contentOf(element, DER.generalString))
  const text = content.toString('utf8')
  if (content.includes(0) || !Buffer.from(text, 'utf8').equals(content)) throw new RangeError('a name not in UTF-8')
  return text
}

export const writeText = (text: string) => writeDer(DER.generalString, Buffer.from(text, 'utf8'))

/** The last second that a credential cache can hold: times are 32 bits there, without a sign. In ms since 1970. */
export const MAX_TIME = 0xffff_ffff * 1000

/** KerberosTime (5.2.3), always `YYYYMMDDHHMMSSZ`, from 1970 to 2106; in ms since 1970. */
export function readTime(element: DerElement | undefined): number {
  const text = Buffer.from(contentOf(element, DER.generalizedTime)).toString('latin1')
  const iso = text.replace(/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z')
  const time = iso === text ? Number.NaN : Date.parse(iso)
  if (!(time >= 0 && time <= MAX_TIME)) throw new RangeError('not a time in UTC, from 1970 to 2106')
  return time
}

/** `time` is in ms since 1970; what is below a second is cut off. */
export function writeTime(time: number): Buffer {
  const text = new Date(time).toISOString().replace(/[-:T]|\.\d+/g, '')
  return writeDer(DER.generalizedTime, Buffer.from(text, 'latin1'))
}

/** KerberosFlags (5.2.8) as a number of 32 bits: bit 0 of the specification is the highest. */
export function readFlags(element: DerElement | undefined): number {
  const content = Buffer.from(contentOf(element, DER.bitString))
  if (content.length < 5 || content[0] !== 0) throw new RangeError('flags of less than 32 bits')
  return content.readUInt32BE(1)
}

export function writeFlags(flags: number): Buffer {
  const content = Buffer.alloc(5)
  content.writeUInt32BE(flags, 1)
  return writeDer(DER.bitString, content)
}

/** PrincipalName (5.2.2) with the realm that stands beside it. */
export function readPrincipal(realm: DerElement | undefined, name: DerElement | undefined): Principal {
  const fields = readFields(name)
  const components = readRow(fields.get(1)).map(readText)
  if (components.length === 0 || components.length > MAX_COMPONENTS) throw new RangeError('a name of too many parts')
  return { realm: readText(realm), components, nameType: readUnsigned(fields.get(0)) }
}

/** The PrincipalName of a principal; its realm is another field. */
export function writeName({ nameType, components }: Principal): Buffer {
  return writeFields({ 0: writeDerInteger(nameType), 1: writeDer(DER.sequence, ...components.map(writeText)) })
}

/** EncryptedData (5.2.9). */
export interface EncryptedData {
  readonly enctype: number
  readonly kvno?: number
  readonly cipher: Uint8Array
}

export function readEncrypted(element: DerElement | undefined): EncryptedData {
  const fields = readFields(element)
  const kvno = fields.get(1)
  return {
    enctype: readDerInteger(fields.get(0)),
    ...(kvno && { kvno: readUnsigned(kvno) }),
    cipher: readOctets(fields.get(2)),
  }
}

export function writeEncrypted({ enctype, kvno, cipher }: EncryptedData): Buffer {
  return writeFields({
    0: writeDerInteger(enctype),
    1: kvno === undefined ? undefined : writeDerInteger(kvno),
    2: writeOctets(cipher),
  })
}
