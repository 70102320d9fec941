import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { formatGroupKeyEnvelope, parseGroupKeyEnvelope } from '../../src/gmsa/group-key-envelope.ts'
import { MAX_ENVELOPE_BYTES } from '../../src/gmsa/key-envelope.ts'
import { formatKeyIdentifier, type KeyIdentifier, parseKeyIdentifier } from '../../src/gmsa/key-identifier.ts'
import { printed } from '../contract/printed.ts'
import published from '../vectors/gkdi.json' with { type: 'json' }
import lab from '../vectors/samba-dc-sample.json' with { type: 'json' }

const bytes = (hex: string) => Buffer.from(hex, 'hex')
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex')
const malformed = expect.objectContaining({ code: 'MATERIAL_MALFORMED' })

describe('key identifiers', () => {
  test('there are published ones to read', () => {
    expect([published.keyEnvelopes.length, published.keyEnvelopeErrors.length, lab.samples.length]).toEqual([11, 9, 7])
  })

  test.each(published.keyEnvelopes)('$name is read, and written again', ({ blob, fields }) => {
    const { flags, gkid, rootKeyId, additionalInfo, domainName, forestName } = parseKeyIdentifier(bytes(blob))
    const { version, ...expected } = fields
    const rest = { flags, rootKeyId, domainName, forestName, additionalInfo: hex(additionalInfo) }
    expect({ ...rest, ...gkid }).toEqual(expected)
    expect(version).toBe(1)
    expect(hex(formatKeyIdentifier(parseKeyIdentifier(bytes(blob))))).toBe(blob)
  })

  test("a domain controller's are read", () => {
    for (const { managedPasswordId, managedPasswordPreviousId } of lab.samples) {
      for (const id of [managedPasswordId, managedPasswordPreviousId]) {
        if (!id) continue
        const { l0, l1, l2, rootKeyId } = id
        expect(parseKeyIdentifier(bytes(id.raw))).toMatchObject({
          gkid: { l0, l1, l2 },
          rootKeyId,
          domainName: 'ad.test',
        })
      }
    }
  })

  test.each(published.keyEnvelopeErrors)('refused: $name', ({ blob }) => {
    expect(() => parseKeyIdentifier(bytes(blob))).toThrow(malformed)
  })

  const valid = bytes(published.keyEnvelopes[0]?.blob ?? '')

  test('every shorter and every longer one is refused', () => {
    for (let length = 0; length < valid.length; length++) {
      expect(() => parseKeyIdentifier(valid.subarray(0, length)), `${length}`).toThrow(malformed)
    }
    expect(() => parseKeyIdentifier(Buffer.concat([valid, Buffer.alloc(1)]))).toThrow(malformed)
    expect(() => parseKeyIdentifier(Buffer.alloc(MAX_ENVELOPE_BYTES + 1))).toThrow(malformed)
  })

  test('no input throws anything else, and what is read writes the same bytes', () => {
    const planted = fc.tuple(fc.nat(valid.length - 1), fc.nat(255), fc.nat(8)).map(([at, value, more]) => {
      const copy = Buffer.concat([valid, Buffer.alloc(more)])
      copy[at] = value
      return copy
    })
    fc.assert(
      fc.property(fc.oneof(planted, fc.uint8Array({ maxLength: 200 })), (input) => {
        let read: KeyIdentifier
        try {
          read = parseKeyIdentifier(input)
        } catch (error) {
          expect(error).toBeInstanceOf(GmsaError)
          return
        }
        // Lone surrogates in a name are the one thing that text does not carry.
        if (read.domainName.isWellFormed() && read.forestName.isWellFormed()) {
          expect(hex(formatKeyIdentifier(read))).toBe(hex(input))
        }
      }),
      { numRuns: 1_000 },
    )
  })

  test('what can not be written is refused', () => {
    const identifier = parseKeyIdentifier(valid)
    for (const gkid of [
      { l0: -1, l1: 0, l2: 0 },
      { l0: 0, l1: 32, l2: 0 },
      { l0: 0, l1: 0, l2: -1 },
    ]) {
      expect(() => formatKeyIdentifier({ ...identifier, gkid })).toThrow(RangeError)
    }
    expect(() => formatKeyIdentifier({ ...identifier, additionalInfo: new Uint8Array(MAX_ENVELOPE_BYTES) })).toThrow(
      RangeError,
    )
  })
})

describe('group key envelopes', () => {
  const [vector] = published.groupKeyEnvelopes
  if (!vector) throw new Error('no such vector')

  test('the published one is read, and written again', () => {
    const { gkid, kdfParameters, secretAgreementParameters, l1Key, l2Key, ...rest } = parseGroupKeyEnvelope(
      bytes(vector.blob),
    )
    const [parameters] = published.ffcDhParameters
    const read = {
      ...rest,
      ...gkid,
      version: 1,
      kdfParameters: hex(kdfParameters),
      l1Key: hex(l1Key?.reveal() ?? Buffer.alloc(0)),
      l2Key: hex(l2Key?.reveal() ?? Buffer.alloc(0)),
    }
    expect(read).toMatchObject({
      ...vector.fields,
      rootKeyId: vector.fields.rootKeyId,
    })
    expect(hex(secretAgreementParameters)).toBe(parameters?.blob)
    expect(hex(formatGroupKeyEnvelope(parseGroupKeyEnvelope(bytes(vector.blob))))).toBe(vector.blob)
  })

  test('keys may be absent', () => {
    const { l1Key, ...envelope } = parseGroupKeyEnvelope(bytes(vector.blob))
    const written = formatGroupKeyEnvelope(envelope)
    const read = parseGroupKeyEnvelope(written)
    expect(l1Key?.byteLength).toBe(64)
    expect(read.l1Key).toBeUndefined()
    expect(read.l2Key?.equals(envelope.l2Key ?? read.l2Key)).toBe(true)
  })

  test('keys of another length, and every truncation, are refused; none is shown', () => {
    const blob = bytes(vector.blob)
    // The length of the L1 key, and that of the L2 key to make up for it.
    const moved = Buffer.from(blob)
    moved.writeUInt32LE(63, 40 + 4 * 6)
    moved.writeUInt32LE(65, 40 + 4 * 7)
    expect(() => parseGroupKeyEnvelope(moved)).toThrow(malformed)
    for (let length = 0; length < blob.length; length++) {
      expect(() => parseGroupKeyEnvelope(blob.subarray(0, length)), `${length}`).toThrow(malformed)
    }
    expect(printed(parseGroupKeyEnvelope(blob))).not.toContain(blob.subarray(-64).toString('base64').slice(0, 40))
  })
})
