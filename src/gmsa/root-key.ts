import { GmsaError } from '../base/errors.ts'
import { Secret } from '../base/secret.ts'
import { GROUP_KEY_BYTES } from '../crypto/gkdi.ts'
import type { HashName } from '../crypto/hmac.ts'
import { readName, writeName } from './key-envelope.ts'

/** A KDS root key, as an msKds-ProvRootKey object holds it. Whoever has one has every gMSA of the forest. */
export interface KdsRootKey {
  /** GUID in lower case. */
  readonly id: string
  /** Of the key derivation, from msKds-KDFParam. */
  readonly hash: HashName
  /** msKds-RootKeyData, 64 bytes. */
  readonly data: Secret
  /** msKds-CreateTime as FILETIME: the newest key is taken. */
  readonly createTime: bigint
  /** msKds-UseStartTime as FILETIME: for no password that comes into force before. */
  readonly useStartTime: bigint
}

/** What an msKds-ProvRootKey object says, as written. */
export interface RootKeyFields {
  readonly id: string
  readonly version: number
  readonly kdfAlgorithm: string
  /** Absent or empty: SHA-256. */
  readonly kdfParam?: Uint8Array
  readonly data: Uint8Array
  readonly createTime: bigint
  readonly useStartTime: bigint
}

const VERSION = 1
const KDF_ALGORITHM = 'SP800_108_CTR_HMAC'
/** The names in msKds-KDFParam, in exactly this writing. */
const HASH_NAMES: ReadonlyMap<string, HashName> = new Map([
  ['SHA1', 'sha1'],
  ['SHA256', 'sha256'],
  ['SHA384', 'sha384'],
  ['SHA512', 'sha512'],
])
/** What Windows takes where the attribute is absent. */
const DEFAULT_HASH: HashName = 'sha256'
/** Of msKds-KDFParam: version, number of parameters, length of the name, number of the parameter. */
const PARAM_HEADER = 16

/** Checks a root key and takes over its `data`. Throws MATERIAL_MALFORMED that names the root key and the field. */
export function rootKeyOf(fields: RootKeyFields): KdsRootKey {
  const { id, version, kdfAlgorithm, kdfParam, data, createTime, useStartTime } = fields
  const bad = (problem: string) => new GmsaError('MATERIAL_MALFORMED', `root key ${id}: ${problem}`)
  if (version !== VERSION) throw bad(`version is not ${VERSION}`)
  if (kdfAlgorithm !== KDF_ALGORITHM) throw bad(`KDF algorithm is not ${KDF_ALGORITHM}`)
  if (data.length !== GROUP_KEY_BYTES) throw bad(`key data does not have ${GROUP_KEY_BYTES} bytes`)
  const hash = parseKdfParam(kdfParam)
  if (!hash) throw bad(`KDF parameter names none of ${[...HASH_NAMES.keys()].join(', ')}`)
  return { id: id.toLowerCase(), hash, data: new Secret(data), createTime, useStartTime }
}

/** The hash that msKds-KDFParam names ([MS-GKDI] 2.2.1); undefined where it is not well formed, or names another. */
export function parseKdfParam(bytes?: Uint8Array): HashName | undefined {
  if (bytes === undefined || bytes.length === 0) return DEFAULT_HASH
  const param = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (param.length < PARAM_HEADER) return undefined
  const [version, count, length, number] = [0, 4, 8, 12].map((at) => param.readUInt32LE(at))
  if (version !== 0 || count !== 1 || number !== 0 || length !== param.length - PARAM_HEADER) return undefined
  try {
    return HASH_NAMES.get(readName(param.subarray(PARAM_HEADER), 'hash name'))
  } catch {
    return undefined
  }
}

/** The bytes of msKds-KDFParam. */
export function formatKdfParam(hash: HashName): Buffer {
  const [word = ''] = [...HASH_NAMES].find(([, name]) => name === hash) ?? []
  const name = writeName(word)
  const header = Buffer.alloc(PARAM_HEADER)
  header.writeUInt32LE(1, 4)
  header.writeUInt32LE(name.length, 8)
  return Buffer.concat([header, name])
}

/**
 * The root key for a password that comes into force at `start`: the newest of those whose use had started by then
 * ([MS-GKDI] 3.1.4.1.3). `start` and `decidedAt` are FILETIME.
 *
 * Root keys are often made with a start in the past. One that was made after `decidedAt`, when the directory settled
 * the password, was not there to be chosen; only where no other can have been it counts. Undefined where there is none.
 */
export function chooseRootKey(
  rootKeys: readonly KdsRootKey[],
  start: bigint,
  decidedAt = start,
): KdsRootKey | undefined {
  const usable = rootKeys.filter(({ useStartTime }) => useStartTime <= start)
  const present = usable.filter(({ createTime }) => createTime <= decidedAt)
  return newest(present.length > 0 ? present : usable)
}

function newest(rootKeys: readonly KdsRootKey[]): KdsRootKey | undefined {
  return rootKeys.toSorted((one, other) => (one.createTime < other.createTime ? 1 : -1))[0]
}

/** Overwrites them all. */
export function wipeRootKeys(rootKeys: readonly KdsRootKey[]): void {
  for (const { data } of rootKeys) data.wipe()
}
