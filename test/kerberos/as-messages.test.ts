import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { DER, readDer, writeDer, writeDerInteger } from '../../src/crypto/der.ts'
import {
  encodeAsRequest,
  encodeTimestamp,
  findEnctypeInfo,
  findNtStatus,
  parseKdcReply,
  parseMethodData,
  parseReplyPart,
} from '../../src/kerberos/as-messages.ts'
import {
  MAX_TIME,
  readEncrypted,
  readFlags,
  readPrincipal,
  readText,
  readTime,
  writeEncrypted,
  writeFields,
  writeFlags,
  writeName,
  writeOctets,
  writeText,
  writeTime,
} from '../../src/kerberos/asn1.ts'
import { errorName, KRB_ERRORS } from '../../src/kerberos/error-codes.ts'
import { errorMessage, methods } from '../fakes/kdc.ts'
import salts from '../vectors/gmsad-salt-preauth.json' with { type: 'json' }
import mit from '../vectors/mit-asn1-reference.json' with { type: 'json' }

const bytes = (hex: string) => Buffer.from(hex, 'hex')
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex')
const one = (der: Uint8Array) => readDer(der)[0]
const TIME = Date.UTC(1994, 5, 10, 6, 3, 17)
const someone = { realm: 'ATHENA.MIT.EDU', components: ['hftsai', 'extra'], nameType: 1 }
const protocol = expect.objectContaining({ code: 'STORE_UNAVAILABLE', reason: 'protocol' })

describe('what MIT encodes', () => {
  test.each([mit.asRep, mit.asRepWithoutOptionals])('an AS-REP is read: %s', (text) => {
    const reply = parseKdcReply(bytes(text))
    if (reply.kind !== 'reply') expect.unreachable()
    expect(reply.client).toEqual(someone)
    expect(reply.ticketServer).toEqual(someone)
    expect(hex(reply.ticket)).toBe(mit.ticket)
    expect(reply.encrypted).toMatchObject({ enctype: 0, kvno: 5 })
    expect(Buffer.from(reply.encrypted.cipher).toString()).toBe('krbASN.1 test message')
    const values = reply.preauth.map(({ type, value }) => `${type} ${Buffer.from(value)}`)
    expect(values).toEqual(text === mit.asRep ? ['13 pa-data', '13 pa-data'] : [])
  })

  test('the encrypted part is read, with and without what is optional', () => {
    const part = parseReplyPart(bytes(mit.encKdcRepPart))
    const { sessionKey, ...rest } = part
    expect(rest).toEqual({
      nonce: 42,
      flags: 0xfedcba98,
      authTime: TIME,
      startTime: TIME,
      endTime: TIME,
      renewTill: TIME,
      server: someone,
    })
    expect([sessionKey.enctype, sessionKey.key.revealText()]).toEqual([1, '12345678'])
    const least = parseReplyPart(bytes(mit.encKdcRepPartWithoutOptionals))
    expect(least).toMatchObject({ authTime: TIME, endTime: TIME, flags: 0xfe5cba98 })
    expect(least).not.toHaveProperty('startTime')
    expect(least).not.toHaveProperty('renewTill')
  })

  test('an error is read, with and without what is optional', () => {
    const time = TIME + 123
    expect(parseKdcReply(bytes(mit.errorWithoutOptionals))).toEqual({ kind: 'error', code: 60, time })
    const full = parseKdcReply(bytes(mit.error))
    expect(full).toMatchObject({ kind: 'error', code: 60, time, clientRealm: 'ATHENA.MIT.EDU' })
    expect(full.kind === 'error' && Buffer.from(full.data ?? []).toString()).toBe('krb5data')
  })

  test('a kvno is a number without a sign, however it was written', () => {
    expect(readEncrypted(one(bytes(mit.encryptedDataKvnoTopBit))).kvno).toBe(0xff000000)
    expect(readEncrypted(one(bytes(mit.encryptedDataKvnoMinusOne))).kvno).toBe(0xffffffff)
  })

  test('a TGS-REP is no answer to an AS-REQ', () => {
    expect(() => parseKdcReply(bytes(mit.tgsRep))).toThrow(protocol)
  })

  test('a key can be read again after its message was wiped', () => {
    const message = bytes(mit.encKdcRepPart)
    const { key } = parseReplyPart(message).sessionKey
    message.fill(0)
    expect(key.revealText()).toBe('12345678')
  })
})

describe('what gmsad and an MIT KDC said to each other', () => {
  test('is there to run', () => expect(salts.exchanges.length).toBe(3))

  test.each(salts.exchanges)(
    '$user: our request is the same but for the options, byte for byte',
    ({ user, realm, asReqHex }) => {
      const request = encodeAsRequest({
        client: { realm, components: [user], nameType: 1 },
        server: { realm, components: ['krbtgt', realm], nameType: 2 },
        options: 0,
        till: 0,
        nonce: 0x1234567,
        enctypes: [17, 18],
        preauth: [],
      })
      // gmsad writes the options with no bits at all, where RFC 4120 5.2.8 asks for 32.
      const [, theirs = 'other options'] = asReqHex.split('a003030100')
      expect(hex(request).split('a00703050000000000')[1]).toBe(theirs)
    },
  )

  test.each(salts.exchanges)('$user: $note', ({ replyHex, expectedSalt }) => {
    const reply = parseKdcReply(bytes(replyHex))
    const preauth = reply.kind === 'reply' ? reply.preauth : reply.data ? parseMethodData(reply.data) : []
    const [info] = findEnctypeInfo(preauth)
    expect(info?.salt ?? null).toBe(expectedSalt)
    if (reply.kind === 'error') expect([6, 25]).toContain(reply.code)
  })
})

describe('the parts of messages', () => {
  const text = fc.string({ unit: 'binary', maxLength: 60 }).filter((each) => !each.includes('\0'))

  test('are read as they are written', () => {
    fc.assert(
      fc.property(
        fc.record({
          realm: text,
          components: fc.array(text, { minLength: 1, maxLength: 8 }),
          nameType: fc.nat(0xffff_ffff),
        }),
        fc.integer({ min: 0, max: 0xffff_ffff }),
        fc.integer({ min: 0, max: MAX_TIME / 1000 }),
        fc.record({ enctype: fc.integer({ min: -140, max: 30 }), cipher: fc.uint8Array() }),
        (principal, number, seconds, encrypted) => {
          expect(readPrincipal(one(writeText(principal.realm)), one(writeName(principal)))).toEqual(principal)
          expect(readFlags(one(writeFlags(number)))).toBe(number)
          expect(readTime(one(writeTime(seconds * 1000 + 999)))).toBe(seconds * 1000)
          for (const data of [encrypted, { ...encrypted, kvno: number }]) {
            const read = readEncrypted(one(writeEncrypted(data)))
            expect({ ...read, cipher: Uint8Array.from(read.cipher) }).toEqual(data)
          }
        },
      ),
    )
  })

  const generalized = (value: string) => one(writeDer(DER.generalizedTime, Buffer.from(value)))
  test.each(['19700101000000Z', '20260228235959Z', '21060207062815Z'])('%s is a time', (value) => {
    expect(hex(writeTime(readTime(generalized(value))))).toBe(hex(writeDer(DER.generalizedTime, Buffer.from(value))))
  })

  test.each([
    '20260101000000',
    '20260101000000.5Z',
    '20261301000000Z',
    '20260101250000Z',
    '19691231235959Z',
    '21060207062816Z',
    '99991231235959Z',
    '',
    '20260101000000+0100',
  ])('%j is no time', (value) => expect(() => readTime(generalized(value))).toThrow(RangeError))

  test.each([
    ['two realms', '1b0141'.repeat(2), RangeError],
    ['a NUL', '1b024100', RangeError],
    ['no UTF-8', '1b01ff', RangeError],
    ['another type', '0c0141', RangeError],
  ])('a name with %s is none', (what, value, error) => {
    if (what === 'two realms') expect(() => readText(readDer(bytes(value))[2])).toThrow(error)
    else expect(() => readText(one(bytes(value)))).toThrow(error)
  })

  test('flags of less than 32 bits, or with bits left over, are none; longer ones are cut', () => {
    const flags = (value: string) => readFlags(one(writeDer(DER.bitString, bytes(value))))
    expect(() => flags('0040e100')).toThrow(RangeError)
    expect(() => flags('0440e10000')).toThrow(RangeError)
    expect(flags('0040e10000ff')).toBe(0x40e10000)
  })

  test('a name without parts, or with more than any has, is none', () => {
    const named = (components: string[]) =>
      readPrincipal(one(writeText('R')), one(writeName({ ...someone, components })))
    expect(() => named([])).toThrow(RangeError)
    expect(() => named(new Array(9).fill('x'))).toThrow(RangeError)
  })

  test('a timestamp has its milliseconds as microseconds', () => {
    expect(hex(encodeTimestamp(TIME + 123))).toBe('301aa011180f31393934303631303036303331375aa1050203' + '01e078')
  })
})

describe('what a KDC should not send', () => {
  const error = (fields: Readonly<Record<number, Uint8Array | undefined>>) =>
    writeDer(
      0x7e,
      writeFields({
        0: writeDerInteger(5),
        1: writeDerInteger(30),
        4: writeTime(TIME),
        5: writeDerInteger(0),
        6: writeDerInteger(6),
        ...fields,
      }),
    )

  test('the message that the others depart from is well', () => {
    expect(parseKdcReply(error({}))).toEqual({ kind: 'error', code: 6, time: TIME })
    expect(parseKdcReply(error({ 13: writeOctets(bytes('00')) }))).toMatchObject({ code: 6 })
  })

  test.each([
    ['nothing', Buffer.alloc(0)],
    ['another version', error({ 0: writeDerInteger(4) })],
    ['another type inside', error({ 1: writeDerInteger(11) })],
    ['no time', error({ 4: undefined })],
    ['no code', error({ 6: undefined })],
    ['a byte after it', Buffer.concat([error({}), Buffer.alloc(1)])],
    ['a field twice', bytes('7e0e300ca003020105a003020105')],
    ['fields out of order', bytes('7e0e300ca10302011ea003020105')],
    ['two values in a field', bytes('7e0a3008a006020105020105')],
    ['an indefinite length', bytes('7e803080000000')],
    ['text', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['more than any answer has', Buffer.alloc((1 << 17) + 1, 0x7e)],
  ])('%s is refused', (_what, message) => {
    expect(() => parseKdcReply(message)).toThrow(protocol)
  })

  test('rows without end are refused', () => {
    const row = writeDer(DER.sequence, ...new Array<Uint8Array>(65).fill(writeFields({ 0: writeDerInteger(18) })))
    expect(() => findEnctypeInfo([{ type: 19, value: row }])).toThrow(protocol)
    const padata = writeFields({ 1: writeDerInteger(2), 2: writeOctets(new Uint8Array()) })
    expect(() => parseMethodData(writeDer(DER.sequence, ...new Array<Uint8Array>(65).fill(padata)))).toThrow(protocol)
  })

  test('no bytes up to 64 KiB, and no damaged message, make a parser throw anything but its own error', () => {
    const parsers = [
      parseKdcReply,
      parseMethodData,
      parseReplyPart,
      findNtStatus,
      (data: Uint8Array) => findEnctypeInfo([{ type: 19, value: data }]),
    ]
    const whole = [mit.asRep, mit.error, mit.encKdcRepPart, ...salts.exchanges.map(({ replyHex }) => replyHex)].map(
      bytes,
    )
    const damaged = fc
      .tuple(fc.constantFrom(...whole), fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }), fc.nat())
      .map(([message, changes, length]) => {
        const changed = Buffer.from(message)
        for (const [at, value] of changes) changed[at % changed.length] = value
        return changed.subarray(0, length % 3 === 0 ? length % changed.length : changed.length)
      })
    const long = fc.uint8Array({ maxLength: 1 << 16, size: 'max' })
    fc.assert(
      fc.property(fc.oneof({ weight: 8, arbitrary: damaged }, fc.uint8Array(), long), (junk) => {
        for (const parse of parsers) {
          try {
            parse(junk)
          } catch (thrown) {
            if (!(thrown instanceof GmsaError)) throw thrown
            expect(thrown).toEqual(protocol)
          }
        }
      }),
      { numRuns: 400 },
    )
  })
})

describe('the NTSTATUS beside an error of Active Directory', () => {
  // KERB-EXT-ERROR: status, reserved, flags; here STATUS_ACCOUNT_DISABLED.
  const status = bytes('720000c00000000001000000')
  const errorData = writeFields({ 1: writeDerInteger(3), 2: writeOctets(status) })

  test('is found in KERB-ERROR-DATA, and among methods of pre-authentication', () => {
    expect(findNtStatus(errorData)).toBe(0xc0000072)
    expect(findNtStatus(writeDer(DER.sequence, errorData))).toBe(0xc0000072)
  })

  test('is not found where there is none', () => {
    expect(findNtStatus(undefined)).toBeUndefined()
    expect(findNtStatus(Buffer.from('text'))).toBeUndefined()
    expect(findNtStatus(writeFields({ 1: writeDerInteger(3), 2: writeOctets(status.subarray(1)) }))).toBeUndefined()
    expect(findNtStatus(writeFields({ 1: writeDerInteger(1), 2: writeOctets(status) }))).toBeUndefined()
  })
})

describe('error codes', () => {
  test('are called by the names of RFC 4120', () => {
    expect(errorName(24)).toBe('KDC_ERR_PREAUTH_FAILED (24)')
    expect(errorName(KRB_ERRORS.KRB_ERR_RESPONSE_TOO_BIG)).toBe('KRB_ERR_RESPONSE_TOO_BIG (52)')
    expect(errorName(99)).toBe('error 99')
    expect(new Set(Object.values(KRB_ERRORS)).size).toBe(Object.keys(KRB_ERRORS).length)
  })
})

describe('the stand-in KDC of the tests', () => {
  test('speaks what the product reads: two encoders that know nothing of each other', () => {
    const message = errorMessage(25, TIME + 123, methods([{ enctype: 18, salt: 'S', rounds: 4096 }], 'MIT'))
    const reply = parseKdcReply(message)
    if (reply.kind !== 'error') expect.unreachable()
    expect(reply).toMatchObject({ code: 25, time: TIME + 123 })
    const found = parseMethodData(reply.data ?? Buffer.alloc(0))
    expect(found.map(({ type }) => type)).toEqual([2, 19, 133])
    expect(findEnctypeInfo(found)).toEqual([{ enctype: 18, salt: 'S', parameters: Buffer.from('00001000', 'hex') }])
  })
})
