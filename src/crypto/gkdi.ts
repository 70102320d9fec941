import { requireBytes, requireWhole } from './guards.ts'
import type { HashName } from './hmac.ts'
import { deriveByCounter } from './sp800-108.ts'

/** Bytes of a root key, and of every key derived of it, whatever the hash ([MS-GKDI] 3.1.4.1.2). */
export const GROUP_KEY_BYTES = 64
/** Bytes of a managed password, without its terminator. */
export const PASSWORD_BYTES = 256
/** L1 and L2 run from 0 to 31. */
export const LAST_INDEX = 31
/** L0 is a signed 32-bit number on the wire. */
export const MAX_L0 = 0x7fff_ffff

const GUID_BYTES = 16
/** Labels are UTF-16LE and include their own terminator; the derivation puts its zero byte after that. */
const KDS_LABEL = Buffer.from('KDS service\0', 'utf16le')
const GMSA_LABEL = Buffer.from('GMSA PASSWORD\0', 'utf16le')
/** In a context: this index does not apply yet. */
const UNUSED = -1

/**
 * The security descriptor that all gMSA passwords are derived under, self-relative: O:SYD:(A;;FRFW;;;S-1-5-9), that is
 * all domain controllers ([MS-ADTS] 3.1.1.4.5.39).
 */
export const GMSA_SECURITY_DESCRIPTOR: Uint8Array = Buffer.from(
  '010004803000000000000000000000001400000002001c0001000000000014009f011200010100000000000509000000010100000000000512000000',
  'hex',
)

/** What a branch of keys grows from. */
export interface SeedRoot {
  readonly hash: HashName
  /** msKds-RootKeyData, 64 bytes. */
  readonly rootKey: Uint8Array
  /** The root key's GUID in its 16 bytes on the wire: the first three fields little-endian. */
  readonly rootKeyId: Uint8Array
}

/**
 * The L0 key: 64 bytes ([MS-GKDI] 3.1.4.1.2). Every seed key of its 426 days derives from it.
 * The caller owns the result. Throws TypeError or RangeError that names the argument.
 */
export function deriveL0Key({ hash, rootKey, rootKeyId }: SeedRoot, l0: number): Buffer {
  requireBytes('rootKey', rootKey)
  requireBytes('rootKeyId', rootKeyId)
  requireLength('rootKey', rootKey, GROUP_KEY_BYTES)
  requireLength('rootKeyId', rootKeyId, GUID_BYTES)
  requireWhole('l0', l0, 0, MAX_L0)
  return deriveByCounter(hash, rootKey, KDS_LABEL, contextOf(rootKeyId, l0, UNUSED, UNUSED), GROUP_KEY_BYTES)
}

/**
 * The seed key of an L2 cycle, or with `l2` -1 that of a whole L1 step: 64 bytes ([MS-GKDI] 3.1.4.1.2). Both indices
 * are walked down from 31, so that a key yields those before it in its branch and none after it; the descriptor goes
 * into the first step alone. At most 65 derivations. Keys on the way are overwritten; the caller owns the result.
 * Throws TypeError or RangeError that names the argument; there is no seed key of a whole L0 step.
 */
export function deriveSeedKey(
  root: SeedRoot,
  securityDescriptor: Uint8Array,
  { l0, l1, l2 }: { readonly l0: number; readonly l1: number; readonly l2: number },
): Buffer {
  requireBytes('securityDescriptor', securityDescriptor)
  requireWhole('l1', l1, 0, LAST_INDEX)
  requireWhole('l2', l2, UNUSED, LAST_INDEX)
  const { hash, rootKeyId } = root
  let key = deriveL0Key(root, l0)
  const step = (context: Uint8Array) => {
    const next = deriveByCounter(hash, key, KDS_LABEL, context, GROUP_KEY_BYTES)
    key.fill(0)
    key = next
  }
  step(Buffer.concat([contextOf(rootKeyId, l0, LAST_INDEX, UNUSED), securityDescriptor]))
  for (let index = LAST_INDEX - 1; index >= l1; index--) step(contextOf(rootKeyId, l0, index, UNUSED))
  if (l2 === UNUSED) return key
  for (let index = LAST_INDEX; index >= l2; index--) step(contextOf(rootKeyId, l0, l1, index))
  return key
}

/**
 * The password that an L2 seed key gives the account with this SID (its bytes, [MS-DTYP] 2.4.2.2): 256 bytes of
 * UTF-16LE without a terminator, with U+0001 in place of each U+0000 ([MS-ADTS] 3.1.1.4.5.39).
 * The caller owns `seedKey` and the result. Throws TypeError or RangeError that names the argument.
 */
export function deriveGmsaPassword(hash: HashName, seedKey: Uint8Array, sid: Uint8Array): Buffer {
  requireBytes('seedKey', seedKey)
  requireLength('seedKey', seedKey, GROUP_KEY_BYTES)
  return replaceZeroUnits(deriveByCounter(hash, seedKey, GMSA_LABEL, sid, PASSWORD_BYTES))
}

/**
 * Makes each 16-bit unit that is 0 a 1, in place: a NUL would end the password. Two zero bytes across two units stay.
 * Throws RangeError where the length is odd.
 */
export function replaceZeroUnits(utf16: Buffer): Buffer {
  requireBytes('utf16', utf16)
  if (utf16.length % 2 !== 0) throw new RangeError('utf16 must have an even number of bytes')
  for (let at = 0; at < utf16.length; at += 2) {
    if (utf16.readUInt16LE(at) === 0) utf16.writeUInt16LE(1, at)
  }
  return utf16
}

/** GUID and the three indices, in 32 bits little-endian each. */
function contextOf(rootKeyId: Uint8Array, l0: number, l1: number, l2: number): Buffer {
  const context = Buffer.alloc(GUID_BYTES + 12)
  context.set(rootKeyId)
  for (const [position, index] of [l0, l1, l2].entries()) context.writeInt32LE(index, GUID_BYTES + 4 * position)
  return context
}

function requireLength(name: string, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length) throw new RangeError(`${name} must have ${length} bytes`)
}
