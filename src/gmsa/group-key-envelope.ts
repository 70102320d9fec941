import { Secret } from '../base/secret.ts'
import { GROUP_KEY_BYTES } from '../crypto/gkdi.ts'
import {
  closeEnvelope,
  type KeyHeader,
  malformed,
  openEnvelope,
  readName,
  splitParts,
  writeName,
} from './key-envelope.ts'

/** What ISDKey.GetKey answers ([MS-GKDI] 2.2.4): seed keys, and how to derive of them. */
export interface GroupKeyEnvelope extends KeyHeader {
  readonly kdfAlgorithm: string
  /** As msKds-KDFParam. */
  readonly kdfParameters: Uint8Array
  readonly secretAgreementAlgorithm: string
  readonly secretAgreementParameters: Uint8Array
  /** In bits. */
  readonly privateKeyLength: number
  readonly publicKeyLength: number
  readonly domainName: string
  readonly forestName: string
  /** 64 bytes each, where it is there. */
  readonly l1Key?: Secret
  readonly l2Key?: Secret
}

/** Eight lengths, and the two of the agreement's keys. */
const NUMBERS = 10

/**
 * Reads a group key envelope. Keys are copies: the caller may wipe `bytes`, and owns the keys.
 * Throws MATERIAL_MALFORMED that names the field.
 */
export function parseGroupKeyEnvelope(bytes: Uint8Array): GroupKeyEnvelope {
  const { header, numbers, rest } = openEnvelope(bytes, NUMBERS)
  const [kdf, kdfParam, agreement, agreementParam, privateKeyLength = 0, publicKeyLength = 0, l1, l2, domain, forest] =
    numbers as [number, number, number, number, number, number, number, number, number, number]
  // The keys' lengths come before those of the names, the keys themselves after them.
  const parts = splitParts(rest, [kdf, kdfParam, agreement, agreementParam, domain, forest, l1, l2])
  const at = (index: number) => parts[index] ?? Buffer.alloc(0)
  return {
    ...header,
    kdfAlgorithm: readName(at(0), 'KDF algorithm'),
    kdfParameters: Uint8Array.from(at(1)),
    secretAgreementAlgorithm: readName(at(2), 'secret agreement algorithm'),
    secretAgreementParameters: Uint8Array.from(at(3)),
    privateKeyLength,
    publicKeyLength,
    domainName: readName(at(4), 'domain name'),
    forestName: readName(at(5), 'forest name'),
    ...(l1 > 0 && { l1Key: readKey(at(6), 'L1 key') }),
    ...(l2 > 0 && { l2Key: readKey(at(7), 'L2 key') }),
  }
}

/** The bytes of a group key envelope, which the caller owns. Throws RangeError, as formatKeyIdentifier does. */
export function formatGroupKeyEnvelope(envelope: GroupKeyEnvelope): Buffer {
  const { privateKeyLength, publicKeyLength, l1Key, l2Key } = envelope
  const [kdf, agreement] = [envelope.kdfAlgorithm, envelope.secretAgreementAlgorithm].map(writeName) as [Buffer, Buffer]
  const [domain, forest] = [envelope.domainName, envelope.forestName].map(writeName) as [Buffer, Buffer]
  const [l1, l2] = [l1Key, l2Key].map((key) => key?.reveal() ?? new Uint8Array(0)) as [Uint8Array, Uint8Array]
  const { kdfParameters, secretAgreementParameters } = envelope
  const lengths = (...parts: readonly Uint8Array[]) => parts.map(({ length }) => length)
  return closeEnvelope(
    envelope,
    [
      ...lengths(kdf, kdfParameters, agreement, secretAgreementParameters),
      privateKeyLength,
      publicKeyLength,
      ...lengths(l1, l2, domain, forest),
    ],
    [kdf, kdfParameters, agreement, secretAgreementParameters, domain, forest, l1, l2],
  )
}

function readKey(bytes: Buffer, field: string): Secret {
  if (bytes.length !== GROUP_KEY_BYTES) throw malformed(`${field} does not have ${GROUP_KEY_BYTES} bytes`)
  return new Secret(Uint8Array.from(bytes))
}
