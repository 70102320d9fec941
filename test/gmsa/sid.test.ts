import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { formatSid, parseSid } from '../../src/gmsa/sid.ts'
import lab from '../vectors/samba-dc-sample.json' with { type: 'json' }

const malformed = expect.objectContaining({ code: 'MATERIAL_MALFORMED' })

describe('a SID', () => {
  test('there are samples of a domain controller to run', () => {
    expect(lab.samples.length).toBe(7)
  })

  test.each(lab.samples.map(({ account }) => account))('of $name is $sid', ({ sid, sidRaw }) => {
    expect(parseSid(sid).toString('hex')).toBe(sidRaw)
    expect(formatSid(Buffer.from(sidRaw, 'hex'))).toBe(sid)
  })

  test('comes back as it was', () => {
    const sid = fc
      .tuple(fc.nat(0xffff_ffff), fc.array(fc.nat(0xffff_ffff), { minLength: 1, maxLength: 15 }))
      .map(([authority, subs]) => ['S-1', authority, ...subs].join('-'))
    fc.assert(
      fc.property(sid, (text) => {
        expect(formatSid(parseSid(text))).toBe(text)
      }),
    )
  })

  test('with an authority of more than 32 bits is written in hex', () => {
    const text = 'S-1-0x123456789abc-7'
    expect(parseSid(text).toString('hex')).toBe('0101123456789abc07000000')
    expect(formatSid(parseSid('s-1-0X123456789ABC-7'))).toBe(text)
  })

  test.each([
    '',
    'S-1-5',
    'S-2-5-21',
    'S-1-5-',
    'S-1-5-21-x',
    'S-1-5-4294967296',
    'S-1-4294967296-1',
    'S-1-0x1-1',
    'S-1-5-21-1 ',
    `S-1-5${'-1'.repeat(16)}`,
    `S-1-5${'-1'.repeat(60_000)}`,
  ])('is refused where its text is none (%#)', (text) => {
    expect(() => parseSid(text)).toThrow(malformed)
  })

  test('is not made of any bytes', () => {
    for (const bytes of [
      '',
      '01',
      '0100000000000005',
      '0201000000000005ffffffff',
      '010100000000000515',
      `0110${'00'.repeat(70)}`,
    ]) {
      expect(() => formatSid(Buffer.from(bytes, 'hex')), bytes).toThrow(malformed)
    }
  })
})
