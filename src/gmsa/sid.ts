import { GmsaError } from '../base/errors.ts'

const REVISION = 1
/** [MS-DTYP] 2.4.2.2. */
const MAX_SUB_AUTHORITIES = 15
const HEADER = 8
const MAX_32 = 0xffff_ffff
const MAX_48 = 0xffff_ffff_ffff

/** The longest text form of all: `S-1-0x` with twelve digits, and fifteen times ten digits. */
const MAX_TEXT = 'S-1-0x123456789abc'.length + MAX_SUB_AUTHORITIES * '-4294967295'.length

/** Authorities below 2^32 in decimal, others in hex with all twelve digits ([MS-DTYP] 2.4.2.1). */
const GRAMMAR = /^S-1-(0x[0-9a-f]{12}|[0-9]{1,10})((?:-[0-9]{1,10})+)$/i

/**
 * The bytes of a SID ([MS-DTYP] 2.4.2.2), from its text `S-1-5-21-…`: revision, number of sub-authorities, authority
 * in 48 bits big-endian, sub-authorities in 32 bits little-endian each. Throws MATERIAL_MALFORMED.
 */
export function parseSid(text: string): Buffer {
  const [, authorityText = '', rest] = text.length <= MAX_TEXT ? (GRAMMAR.exec(text) ?? []) : []
  if (rest === undefined) throw malformed('expected the form S-1-5-21-1-2-3-1105')
  const authority = Number(authorityText)
  const subAuthorities = rest.slice(1).split('-').map(Number)
  if (authority > MAX_48 || (authority > MAX_32 && !/^0x/i.test(authorityText))) throw malformed('authority too large')
  if (subAuthorities.length > MAX_SUB_AUTHORITIES) throw malformed(`more than ${MAX_SUB_AUTHORITIES} sub-authorities`)
  if (subAuthorities.some((value) => value > MAX_32)) throw malformed('a sub-authority of more than 32 bits')
  const bytes = Buffer.alloc(HEADER + 4 * subAuthorities.length)
  bytes.set([REVISION, subAuthorities.length])
  bytes.writeUIntBE(authority, 2, 6)
  subAuthorities.forEach((value, index) => {
    bytes.writeUInt32LE(value, HEADER + 4 * index)
  })
  return bytes
}

/** The text of a SID from its bytes, as objectSid holds them. Throws MATERIAL_MALFORMED. */
export function formatSid(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const [revision, count = 0] = buffer
  if (revision !== REVISION) throw malformed('revision is not 1')
  if (count < 1 || count > MAX_SUB_AUTHORITIES || buffer.length !== HEADER + 4 * count) throw malformed('wrong length')
  const authority = buffer.readUIntBE(2, 6)
  const authorityText = authority > MAX_32 ? `0x${authority.toString(16).padStart(12, '0')}` : `${authority}`
  const subAuthorities = Array.from({ length: count }, (_, index) => buffer.readUInt32LE(HEADER + 4 * index))
  return ['S', REVISION, authorityText, ...subAuthorities].join('-')
}

function malformed(problem: string): GmsaError {
  return new GmsaError('MATERIAL_MALFORMED', `SID: ${problem}`)
}
