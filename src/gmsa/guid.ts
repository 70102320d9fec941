import { GmsaError } from '../base/errors.ts'

const BYTES = 16
const GRAMMAR = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** Whether `text` is a GUID in its 36 characters, of either case, without braces. */
export function isGuid(text: string): boolean {
  return GRAMMAR.test(text.toLowerCase())
}

/**
 * The 16 bytes of a GUID on the wire ([MS-DTYP] 2.3.4.2): the first three fields little-endian, the rest as written.
 * Throws MATERIAL_MALFORMED.
 */
export function parseGuid(text: string): Buffer {
  if (!isGuid(text)) throw new GmsaError('MATERIAL_MALFORMED', 'GUID: expected 36 characters, hex and dashes')
  return swapFields(Buffer.from(text.replaceAll('-', ''), 'hex'))
}

/** The text of a GUID from its 16 bytes on the wire, in lower case. Throws MATERIAL_MALFORMED. */
export function formatGuid(bytes: Uint8Array): string {
  if (bytes.length !== BYTES) throw new GmsaError('MATERIAL_MALFORMED', `GUID: expected ${BYTES} bytes`)
  const hex = swapFields(Buffer.from(bytes)).toString('hex')
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

/** From one byte order to the other, in place. */
function swapFields(bytes: Buffer): Buffer {
  bytes.subarray(0, 4).reverse()
  bytes.subarray(4, 8).swap16()
  return bytes
}
