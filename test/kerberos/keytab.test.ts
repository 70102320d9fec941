import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { Secret } from '../../src/base/secret.ts'
import { ENCTYPES, enctypeOf } from '../../src/kerberos/enctype.ts'
import { type KerberosKeys, keytabEntries } from '../../src/kerberos/keys.ts'
import { encodeKeytab, type KeytabEntry, MAX_KEYTAB_BYTES, parseKeytab } from '../../src/kerberos/keytab.ts'
import { formatPrincipal, parsePrincipal } from '../../src/kerberos/principal.ts'
import { needs, program } from '../lab/skip.ts'
import published from '../vectors/gmsad-keytab.json' with { type: 'json' }

const bytes = (hex: string) => Buffer.from(hex, 'hex')
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex')

/** All of an entry as text, so that two can be compared with their keys. */
const shown = ({ principal, timestamp, kvno, enctype, key }: KeytabEntry) =>
  [formatPrincipal(principal), principal.nameType, timestamp, kvno, enctype, hex(key.reveal())].join(' ')
const brief = ({ principal, kvno, enctype }: KeytabEntry) => `${formatPrincipal(principal)} ${kvno} ${enctype}`

const part = fc.string({ unit: 'binary', minLength: 1, maxLength: 20 })
const entry: fc.Arbitrary<KeytabEntry> = fc
  .record({
    realm: part,
    components: fc.array(part, { minLength: 1, maxLength: 4 }),
    nameType: fc.nat(0xffff_ffff),
    timestamp: fc.nat(0xffff_ffff),
    kvno: fc.oneof(fc.nat(600), fc.nat(0xffff_ffff)),
    enctype: fc.oneof(fc.constantFrom(17, 18, 19, 20, 23), fc.integer({ min: -0x8000, max: 0x7fff })),
    key: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  })
  .map(({ realm, components, nameType, timestamp, kvno, enctype, key }) => ({
    principal: { realm, components, nameType },
    timestamp,
    kvno,
    enctype,
    key: new Secret(key.slice(0, enctypeOf(enctype)?.keyLength ?? 5)),
  }))

describe('the published keytabs', () => {
  const entries = published.entries.map(({ principal, kvno, enctype, keyHex }) => ({
    principal: parsePrincipal(principal),
    timestamp: published.timestamp,
    kvno,
    enctype,
    key: new Secret(bytes(keyHex)),
  }))

  test('are there to run', () => {
    expect([entries.length, published.kvnoEdges.length, published.readerCases.length]).toEqual([4, 13, 12])
  })

  test('are written byte for byte as MIT writes them', () => {
    expect(hex(encodeKeytab(entries))).toBe(published.keytabHex)
  })

  test('are read back, and so is what gmsad writes, as far as it writes the right kvno', () => {
    expect(parseKeytab(bytes(published.keytabHex)).map(shown)).toEqual(entries.map(shown))
    expect(parseKeytab(bytes(published.gmsadKeytabHex)).map(brief)).toEqual(entries.map(brief))
  })

  test.each(published.kvnoEdges)('kvno $kvno has $vno8 in its short field and all of it in the long one', (edge) => {
    const file = bytes(`0502${edge.entryHex}`)
    const read = parseKeytab(file)
    expect(read.map(({ kvno }) => kvno)).toEqual([edge.kvno])
    expect(hex(encodeKeytab(read))).toBe(hex(file))
  })

  test.each(published.readerCases)('$case', ({ hex: file, expected }) => {
    if (expected) expect(parseKeytab(bytes(file)).map(brief)).toEqual(expected)
    else expect(() => parseKeytab(bytes(file))).toThrow(expect.objectContaining({ code: 'MATERIAL_MALFORMED' }))
  })

  test('version 0x0501 is refused by its name', () => {
    expect(() => parseKeytab(bytes('0501'))).toThrow(/0x0501.*expected 0x0502/)
  })
})

describe('a keytab', () => {
  test('of any entries comes back as it was', () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 6 }), (entries) => {
        const file = encodeKeytab(entries)
        expect(parseKeytab(file).map(shown)).toEqual(entries.map(shown))
        expect(encodeKeytab(entries)).toEqual(file)
      }),
    )
  })

  test('is refused at every length but its own, or ends before an entry', () => {
    fc.assert(
      fc.property(fc.array(entry, { minLength: 1, maxLength: 3 }), fc.nat(), (entries, cut) => {
        const file = encodeKeytab(entries)
        const short = file.subarray(0, cut % file.length)
        let read = -1
        try {
          read = parseKeytab(short).length
        } catch (error) {
          expect(error).toBeInstanceOf(GmsaError)
        }
        expect(read).toBeLessThan(entries.length)
      }),
    )
  })

  test('with any byte changed is read or refused with our own error', () => {
    const file = encodeKeytab([sample(3), sample(4)])
    let refused = 0
    for (let at = 0; at < file.length; at++) {
      for (const value of [0, 1, 0x7f, 0x80, 0xff]) {
        const broken = Buffer.from(file)
        broken[at] = value
        try {
          parseKeytab(broken)
        } catch (error) {
          refused += 1
          expect(error).toBeInstanceOf(GmsaError)
        }
      }
    }
    expect(refused).toBeGreaterThan(100)
  })

  test('of 64 KiB of anything costs bounded work and throws nothing else', { timeout: 2_000 }, () => {
    const holes = Buffer.alloc(65_536, bytes('ffffffff00'))
    const slots = Buffer.alloc(65_536, bytes('0000000100'))
    const wide = Buffer.concat([bytes('00010000ffff'), Buffer.alloc(65_536, bytes('000161'))])
    for (const body of [holes, slots, wide, Buffer.alloc(65_536), Buffer.alloc(65_536, 0xff)]) {
      try {
        parseKeytab(Buffer.concat([bytes('0502'), body]))
      } catch (error) {
        expect(error).toBeInstanceOf(GmsaError)
      }
    }
    const random = fc.tuple(fc.uint8Array({ minLength: 0, maxLength: 65_536, size: 'max' }), fc.boolean())
    fc.assert(
      fc.property(random, ([input, withVersion]) => {
        if (withVersion) input.set(bytes('0502').subarray(0, input.length))
        try {
          // Every slot takes four bytes at least: there can't be more entries than that.
          expect(parseKeytab(input).length).toBeLessThanOrEqual(input.length / 4)
        } catch (error) {
          expect(error).toBeInstanceOf(GmsaError)
        }
      }),
      { numRuns: 50 },
    )
  })

  test('larger than 1 MiB is neither read nor written', () => {
    expect(() => parseKeytab(Buffer.alloc(MAX_KEYTAB_BYTES + 1))).toThrow(/1 MiB/)
    const many = new Array<KeytabEntry>(20_000).fill(sample(1))
    expect(() => encodeKeytab(many)).toThrow(/1 MiB/)
  })

  test('takes a copy of each key, and shows none in its errors', () => {
    const file = encodeKeytab([sample(3)])
    const [read] = parseKeytab(file)
    file.fill(0)
    expect(hex(read?.key.reveal() ?? Buffer.alloc(0))).toBe('07'.repeat(32))
    const wrong = { ...sample(1), key: new Secret(Buffer.from('canary')) }
    expect(() => encodeKeytab([wrong])).toThrow(/^keytab: a key of wrong length for aes256-cts-hmac-sha1-96$/)
  })

  test.each([
    { timestamp: -1 },
    { timestamp: 2 ** 32 },
    { kvno: 2 ** 32 },
    { kvno: 1.5 },
    { enctype: 0x8000 },
    { principal: { realm: '', components: ['a'], nameType: 1 } },
    { principal: { realm: 'R', components: [], nameType: 1 } },
    { principal: { realm: 'R', components: ['a', ''], nameType: 1 } },
    { principal: { realm: 'R', components: ['x'.repeat(70_000)], nameType: 1 } },
    { principal: { realm: 'R', components: ['\ud800'], nameType: 1 } },
  ])('can not hold %j', (wrong) => {
    expect(() => encodeKeytab([{ ...sample(1), ...wrong }])).toThrow(
      expect.objectContaining({ code: 'MATERIAL_MALFORMED' }),
    )
  })

  test('with a principal of no parts is refused', () => {
    const file = bytes(`050200000025${'0000000152'}000000010000000001001200${'20'}${'07'.repeat(32)}`)
    file.writeInt32BE(file.length - 6, 2)
    expect(() => parseKeytab(file)).toThrow(/without components/)
  })

  test('with a principal that is not UTF-8 is refused, since it could not be written again', () => {
    const file = encodeKeytab([sample(3)])
    file[file.indexOf('web01')] = 0xff
    expect(() => parseKeytab(file)).toThrow(/not UTF-8/)
  })
})

function sample(kvno: number, enctype = 18): KeytabEntry {
  const key = new Secret(Buffer.alloc(enctypeOf(enctype)?.keyLength ?? 0, 7))
  return { principal: parsePrincipal('HTTP/web01.ad.test@AD.TEST'), timestamp: 1_700_000_000, kvno, enctype, key }
}

describe('what a keytab of an account holds', () => {
  const key = (kvno: number, phase: 'previous' | 'current' | 'next', start?: number) => ({
    kvno,
    enctype: 18 as const,
    key: sample(kvno).key,
    phase,
    ...(start !== undefined && { start }),
  })
  const keys: KerberosKeys = {
    kind: 'kerberos-keys',
    realm: 'AD.TEST',
    salt: 'AD.TESThostweb01.ad.test',
    keys: [key(8, 'next', 1_700_000_000_999), key(7, 'current', 1_600_000_000_000), key(6, 'previous')],
  }
  const principals = ['HTTP/a@AD.TEST', 'HTTP/b@AD.TEST'].map((text) => parsePrincipal(text))
  const held = (use: 'acceptor' | 'initiator') =>
    keytabEntries(keys, use, principals).map((each) => `${brief(each)} ${each.timestamp}`)

  test('is every key for an acceptor, with the second its key starts', () => {
    expect(held('acceptor')).toEqual([
      'HTTP/a@AD.TEST 8 18 1700000000',
      'HTTP/a@AD.TEST 7 18 1600000000',
      'HTTP/a@AD.TEST 6 18 0',
      'HTTP/b@AD.TEST 8 18 1700000000',
      'HTTP/b@AD.TEST 7 18 1600000000',
      'HTTP/b@AD.TEST 6 18 0',
    ])
  })

  test('is the key in force and no other for an initiator', () => {
    expect(held('initiator')).toEqual(['HTTP/a@AD.TEST 7 18 1600000000', 'HTTP/b@AD.TEST 7 18 1600000000'])
  })

  test('is never nothing, and never under kvno 0', () => {
    const refused = expect.objectContaining({ code: 'KVNO_UNKNOWN' })
    const only = (...some: KerberosKeys['keys']) => ({ ...keys, keys: some })
    expect(() => keytabEntries(only(key(8, 'next')), 'initiator', principals)).toThrow(refused)
    expect(() => keytabEntries(only(), 'acceptor', principals)).toThrow(refused)
    expect(() => keytabEntries(only(key(0, 'current')), 'acceptor', principals)).toThrow(refused)
  })
})

describe.skipIf(!needs('krb5'))('MIT Kerberos', () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'keytab-'))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  const entries: KeytabEntry[] = [
    ...ENCTYPES.map(({ number }) => sample(300, number)),
    sample(1),
    { ...sample(255), principal: parsePrincipal('web01$@AD.TEST') },
    { ...sample(256), principal: parsePrincipal('MSSQLSvc/db.ad.test:1433/x@AD.TEST') },
  ]

  function run(name: string, args: readonly string[], input = '') {
    const env = { LC_ALL: 'C', TZ: 'UTC', KRB5_CONFIG: '/dev/null', PATH: process.env['PATH'] }
    const { status, stdout, stderr } = spawnSync(program(name) ?? name, args, { input, env, timeout: 10_000 })
    expect(stderr.toString()).toBe('')
    expect(status).toBe(0)
    return stdout.toString()
  }

  test('klist shows every entry with its key', () => {
    const file = join(folder, 'ours.keytab')
    writeFileSync(file, encodeKeytab(entries), { mode: 0o600 })
    const lines = run('klist', ['-keKt', file]).split('\n').slice(3).filter(Boolean)
    expect(
      lines.map((line) =>
        line
          .trim()
          .replaceAll(/DEPRECATED:/g, '')
          .split(/\s+/),
      ),
    ).toEqual(
      entries.map(({ principal, kvno, enctype, key }) => [
        `${kvno}`,
        '11/14/23',
        '22:13:20',
        formatPrincipal(principal),
        `(${enctypeOf(enctype)?.name})`,
        `(0x${hex(key.reveal())})`,
      ]),
    )
  })

  test('ktutil reads ours and writes it again with the same keys', () => {
    const [ours, theirs] = [join(folder, 'in.keytab'), join(folder, 'out.keytab')]
    writeFileSync(ours, encodeKeytab(entries), { mode: 0o600 })
    run('ktutil', [], `rkt ${ours}\nwkt ${theirs}\nq\n`)
    // ktutil gives every entry the time of writing.
    const untimed = (each: KeytabEntry) => shown({ ...each, timestamp: 0 })
    const written = readFileSync(theirs)
    expect(parseKeytab(written).map(untimed)).toEqual(entries.map(untimed))
    expect(hex(encodeKeytab(parseKeytab(written)))).toBe(hex(written))
  })
})
