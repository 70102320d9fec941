import { timingSafeEqual } from 'node:crypto'
import { inspect } from 'node:util'

const MASK = '[secret]'

/**
 * Bytes that must never be printed: a password, key, keytab, token or root key.
 *
 * The bytes stay in a private field; every way of printing the object answers `[secret]`. {@link Secret.reveal} and
 * {@link Secret.revealText} are the only ways in, so that a reviewer can grep for them.
 */
export class Secret {
  readonly #bytes: Buffer

  /** Takes ownership of `bytes`: the caller must not keep or change them. */
  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** A secret that a store handed us as text. The string itself can't be wiped: let it go at once. */
  static fromText(text: string): Secret {
    // Not Buffer.from: its bytes stand in a pool shared with others, which a copy of the whole buffer would carry off.
    return new Secret(new TextEncoder().encode(text))
  }

  get byteLength(): number {
    return this.#bytes.length
  }

  /** The bytes themselves, not a copy: read them, and never keep them. */
  reveal(): Uint8Array {
    return this.#bytes
  }

  /** The bytes decoded as UTF-8. */
  revealText(): string {
    return this.#bytes.toString('utf8')
  }

  /** Whether both hold the same bytes, in time that depends on the lengths alone. */
  equals(other: Secret): boolean {
    return this.#bytes.length === other.#bytes.length && timingSafeEqual(this.#bytes, other.#bytes)
  }

  /** Overwrites the bytes with zeros. Afterwards the secret is useless. */
  wipe(): void {
    this.#bytes.fill(0)
  }

  toString(): string {
    return MASK
  }

  toJSON(): string {
    return MASK
  }

  [inspect.custom](): string {
    return MASK
  }
}
