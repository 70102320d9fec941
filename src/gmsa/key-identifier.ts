import { closeEnvelope, type KeyHeader, openEnvelope, readName, splitParts, writeName } from './key-envelope.ts'

/** A key identifier, as msDS-ManagedPasswordId holds it. It is no secret: every domain user may read it. */
export interface KeyIdentifier extends KeyHeader {
  /** Empty for gMSAs. */
  readonly additionalInfo: Uint8Array
  /** DNS name of the domain. */
  readonly domainName: string
  readonly forestName: string
}

/** Of additional info, domain and forest name. */
const LENGTHS = 3

/**
 * Reads msDS-ManagedPasswordId or msDS-ManagedPasswordPreviousId: a header of 52 bytes, then additional info, domain
 * and forest name. Throws MATERIAL_MALFORMED that names the field.
 */
export function parseKeyIdentifier(bytes: Uint8Array): KeyIdentifier {
  const { header, numbers, rest } = openEnvelope(bytes, LENGTHS)
  const [info, domain, forest] = splitParts(rest, numbers) as [Buffer, Buffer, Buffer]
  return {
    ...header,
    additionalInfo: Uint8Array.from(info),
    domainName: readName(domain, 'domain name'),
    forestName: readName(forest, 'forest name'),
  }
}

/** The bytes of a key identifier. Throws RangeError where an index is out of range or all of it is too long. */
export function formatKeyIdentifier(identifier: KeyIdentifier): Buffer {
  const parts = [identifier.additionalInfo, writeName(identifier.domainName), writeName(identifier.forestName)]
  const lengths = parts.map(({ length }) => length)
  return closeEnvelope(identifier, lengths, parts)
}
