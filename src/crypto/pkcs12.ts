import {
  createCipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  type KeyObject,
  pbkdf2Sync,
  randomBytes as systemRandomBytes,
  X509Certificate,
} from 'node:crypto'
import * as asn1 from 'asn1js'

/**
 * `compat`: pbeWithSHA1And3-KeyTripleDES-CBC with HMAC-SHA1, which every reader knows. `aes256`: PBES2 with
 * AES-256-CBC and HMAC-SHA256, refused by Windows before Server 2019 and by Mono.
 */
export type Pkcs12Encryption = 'compat' | 'aes256'

export interface Pkcs12Options {
  /** PEM: the key's certificate first, then, if wanted, those of its issuers. */
  readonly certificate: string
  /** PEM, not encrypted: RSA or EC. */
  readonly key: string
  readonly encryption: Pkcs12Encryption
  /** For the salts and initialisation vectors; the system's unless a test needs the same bytes again. */
  readonly randomBytes?: (size: number) => Buffer
}

/** The diversifiers of RFC 7292 B.3: what the derived bytes are for. */
const PURPOSES = { key: 1, iv: 2, mac: 3 } as const

/** Digest output and block sizes in bytes: u and v of RFC 7292 B.2. */
const DIGESTS = { sha1: { u: 20, v: 64 }, sha256: { u: 32, v: 64 } } as const

/** There is no password to slow a guesser down for; 2,048 is what readers have always met. */
const ITERATIONS = 2048
const SALT_BYTES = 8

/**
 * The empty password as B.1 has it: a BMPString with its terminator, so two zero bytes. PBES2 takes the bytes
 * of the password themselves (RFC 8018 5.2): none.
 */
const EMPTY_BMP_PASSWORD = Buffer.alloc(2)

const OID = {
  data: '1.2.840.113549.1.7.1',
  encryptedData: '1.2.840.113549.1.7.6',
  shroudedKeyBag: '1.2.840.113549.1.12.10.1.2',
  certificateBag: '1.2.840.113549.1.12.10.1.3',
  x509Certificate: '1.2.840.113549.1.9.22.1',
  localKeyId: '1.2.840.113549.1.9.21',
  pbeSha1TripleDes: '1.2.840.113549.1.12.1.3',
  pbes2: '1.2.840.113549.1.5.13',
  pbkdf2: '1.2.840.113549.1.5.12',
  hmacSha256: '1.2.840.113549.2.9',
  aes256Cbc: '2.16.840.1.101.3.4.1.42',
  sha1: '1.3.14.3.2.26',
  sha256: '2.16.840.1.101.3.4.2.1',
} as const

type RandomBytes = (size: number) => Buffer

/**
 * A PKCS #12 file (RFC 7292) with one key and its certificates that opens with the empty password, given or not.
 * Such a file is as secret as the bare key: only its mode or ACL protects it.
 *
 * Throws RangeError where the certificates or the key can't be read or don't belong together; the message quotes
 * neither. The caller owns the bytes; the decrypted key that was needed on the way is wiped where it was ours.
 */
export function writePkcs12(options: Pkcs12Options): Buffer {
  const random = options.randomBytes ?? systemRandomBytes
  const certificates = parseCertificates(options.certificate)
  const key = parseKey(options.key)
  const [leaf] = certificates
  if (!leaf?.checkPrivateKey(key)) throw new RangeError('the private key does not belong to the first certificate')
  // Readers pair a key with its certificate by equal localKeyId (RFC 7292 4.2); SHA-1 of the certificate is the custom.
  const localKeyId = createHash('sha1').update(leaf.raw).digest()
  const encrypt = options.encryption === 'compat' ? pbeTripleDes : pbes2
  const pkcs8 = key.export({ type: 'pkcs8', format: 'der' })
  const shrouded = encrypt(pkcs8, random)
  pkcs8.fill(0)
  const keyBag = safeBag(OID.shroudedKeyBag, sequence(shrouded.algorithm, octets(shrouded.bytes)), localKeyId)
  const bags = certificates.map(({ raw }, index) => certificateBag(raw, index === 0 ? localKeyId : undefined))
  const certificateSafe = encryptedContent(encrypt(der(sequence(...bags)), random))
  const authenticatedSafe = der(sequence(certificateSafe, dataContent(der(sequence(keyBag)))))
  return der(
    sequence(
      new asn1.Integer({ value: 3 }),
      dataContent(authenticatedSafe),
      macData(authenticatedSafe, options.encryption === 'compat' ? 'sha1' : 'sha256', random),
    ),
  )
}

/**
 * The key derivation of PKCS #12 (RFC 7292 appendix B.2). `password` is a BMPString with its terminator (B.1), or
 * no bytes at all. Throws RangeError unless `iterations` and `length` are positive whole numbers.
 */
export function pkcs12Kdf(
  digest: keyof typeof DIGESTS,
  purpose: keyof typeof PURPOSES,
  password: Uint8Array,
  salt: Uint8Array,
  iterations: number,
  length: number,
): Buffer {
  if (!(Number.isSafeInteger(iterations) && iterations > 0)) throw new RangeError('iterations must be 1 or more')
  if (!(Number.isSafeInteger(length) && length > 0)) throw new RangeError('length must be 1 or more')
  const { u, v } = DIGESTS[digest]
  // Step 1: the diversifier D. Steps 2 to 4: I is salt and password, each repeated to a multiple of v bytes.
  const diversifier = Buffer.alloc(v, PURPOSES[purpose])
  const input = Buffer.concat([repeated(salt, v), repeated(password, v)])
  const derived = Buffer.alloc(Math.ceil(length / u) * u)
  for (let offset = 0; offset < length; offset += u) {
    // Step 6 A: the hash of D and I, hashed `iterations` times in all.
    let block = createHash(digest).update(diversifier).update(input).digest()
    for (let round = 1; round < iterations; round++) block = createHash(digest).update(block).digest()
    block.copy(derived, offset)
    // Step 6 B and C: each v-byte block of I grows by B + 1, modulo 2^(8v).
    const addend = repeated(block, v).subarray(0, v)
    for (let at = 0; at < input.length; at += v) addPlusOne(input.subarray(at, at + v), addend)
  }
  input.fill(0)
  return derived.subarray(0, length)
}

/** The bytes again and again up to the next multiple of `size`, the last time cut off. Nothing stays nothing. */
function repeated(bytes: Uint8Array, size: number): Buffer {
  if (bytes.length === 0) return Buffer.alloc(0)
  return Buffer.alloc(Math.ceil(bytes.length / size) * size, bytes)
}

function addPlusOne(target: Buffer, addend: Buffer): void {
  let carry = 1
  for (let at = target.length - 1; at >= 0; at--) {
    carry += (target[at] ?? 0) + (addend[at] ?? 0)
    target[at] = carry & 0xff
    carry >>= 8
  }
}

interface Encrypted {
  /** AlgorithmIdentifier. */
  readonly algorithm: asn1.Sequence
  readonly bytes: Buffer
}

/** pbeWithSHA1And3-KeyTripleDES-CBC (RFC 7292 appendix C). */
function pbeTripleDes(plain: Uint8Array, random: RandomBytes): Encrypted {
  const salt = random(SALT_BYTES)
  const key = pkcs12Kdf('sha1', 'key', EMPTY_BMP_PASSWORD, salt, ITERATIONS, 24)
  const iv = pkcs12Kdf('sha1', 'iv', EMPTY_BMP_PASSWORD, salt, ITERATIONS, 8)
  return {
    algorithm: algorithm(OID.pbeSha1TripleDes, sequence(octets(salt), new asn1.Integer({ value: ITERATIONS }))),
    bytes: encryptCbc('des-ede3-cbc', key, iv, plain),
  }
}

/** PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC (RFC 8018 6.2, appendices A.2, A.4 and B.2.5). */
function pbes2(plain: Uint8Array, random: RandomBytes): Encrypted {
  const salt = random(16)
  const iv = random(16)
  const key = pbkdf2Sync('', salt, ITERATIONS, 32, 'sha256')
  const derivation = algorithm(
    OID.pbkdf2,
    sequence(octets(salt), new asn1.Integer({ value: ITERATIONS }), algorithm(OID.hmacSha256, new asn1.Null())),
  )
  return {
    algorithm: algorithm(OID.pbes2, sequence(derivation, algorithm(OID.aes256Cbc, octets(iv)))),
    bytes: encryptCbc('aes-256-cbc', key, iv, plain),
  }
}

function encryptCbc(cipher: 'des-ede3-cbc' | 'aes-256-cbc', key: Buffer, iv: Buffer, plain: Uint8Array): Buffer {
  const encryptor = createCipheriv(cipher, key, iv)
  return Buffer.concat([encryptor.update(plain), encryptor.final()])
}

/** MacData over the contents of the AuthenticatedSafe (RFC 7292 4, 5.1 and appendix A). */
function macData(safe: Uint8Array, digest: keyof typeof DIGESTS, random: RandomBytes): asn1.Sequence {
  const salt = random(SALT_BYTES)
  const key = pkcs12Kdf(digest, 'mac', EMPTY_BMP_PASSWORD, salt, ITERATIONS, DIGESTS[digest].u)
  const mac = createHmac(digest, key).update(safe).digest()
  const digestInfo = sequence(algorithm(OID[digest], new asn1.Null()), octets(mac))
  return sequence(digestInfo, octets(salt), new asn1.Integer({ value: ITERATIONS }))
}

/** CertBag in a SafeBag (RFC 7292 4.2.3). */
function certificateBag(certificate: Uint8Array, localKeyId: Uint8Array | undefined): asn1.Sequence {
  return safeBag(OID.certificateBag, sequence(oid(OID.x509Certificate), explicit(octets(certificate))), localKeyId)
}

/** RFC 7292 4.2. */
function safeBag(type: string, value: asn1.BaseBlock, localKeyId: Uint8Array | undefined): asn1.Sequence {
  const content = [oid(type), explicit(value)]
  if (!localKeyId) return sequence(...content)
  const attribute = sequence(oid(OID.localKeyId), new asn1.Set({ value: [octets(localKeyId)] }))
  return sequence(...content, new asn1.Set({ value: [attribute] }))
}

/** ContentInfo of type data (RFC 5652 3 and 4). */
function dataContent(bytes: Uint8Array): asn1.Sequence {
  return sequence(oid(OID.data), explicit(octets(bytes)))
}

/** ContentInfo of type encryptedData (RFC 5652 8): its content is an implicitly tagged octet string. */
function encryptedContent({ algorithm: used, bytes }: Encrypted): asn1.Sequence {
  const content = new asn1.Primitive({ idBlock: { tagClass: 3, tagNumber: 0 }, valueHex: exact(bytes) })
  const info = sequence(oid(OID.data), used, content)
  return sequence(oid(OID.encryptedData), explicit(sequence(new asn1.Integer({ value: 0 }), info)))
}

function parseCertificates(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  if (blocks.length === 0) throw new RangeError('no PEM certificate given')
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block)
    } catch {
      throw new RangeError(`certificate ${index + 1} can't be parsed`)
    }
  })
}

function parseKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem)
  } catch {
    throw new RangeError("the private key can't be read: PEM without a password is expected")
  }
}

function algorithm(identifier: string, parameters: asn1.BaseBlock): asn1.Sequence {
  return sequence(oid(identifier), parameters)
}

function sequence(...value: asn1.BaseBlock[]): asn1.Sequence {
  return new asn1.Sequence({ value })
}

function explicit(value: asn1.BaseBlock): asn1.Constructed {
  return new asn1.Constructed({ idBlock: { tagClass: 3, tagNumber: 0 }, value: [value] })
}

function oid(value: string): asn1.ObjectIdentifier {
  return new asn1.ObjectIdentifier({ value })
}

function octets(bytes: Uint8Array): asn1.OctetString {
  return new asn1.OctetString({ valueHex: exact(bytes) })
}

/** asn1js takes whole buffers, and a small Buffer is a window into a shared one. */
function exact(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer
}

function der(block: asn1.BaseBlock): Buffer {
  return Buffer.from(block.toBER())
}
