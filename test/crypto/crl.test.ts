import { execFile } from 'node:child_process'
import { randomBytes, sign, X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import * as asn1 from 'asn1js'
import { beforeAll, describe, expect, test } from 'vitest'
import { generateKeys, issueCertificate, issueCrl } from '../../src/crypto/certificate.ts'
import { parseCrls } from '../../src/crypto/crl.ts'
import { makeCa, type TestCa } from '../fakes/pki.ts'
import { needs } from '../lab/skip.ts'

const run = promisify(execFile)
const ECDSA_SHA256 = '1.2.840.10045.4.3.2'
const ECDSA_SHA1 = '1.2.840.10045.4.1'

let ca: TestCa

beforeAll(async () => {
  ca = await makeCa({ name: 'Zoë, "the" CA' })
})

const oid = (value: string) => new asn1.ObjectIdentifier({ value })
const sequence = (...value: asn1.BaseBlock[]) => new asn1.Sequence({ value })
const integer = (value: number) => new asn1.Integer({ value })
const tagged = (tagNumber: number, ...value: asn1.BaseBlock[]) =>
  new asn1.Constructed({ idBlock: { tagClass: 3, tagNumber }, value })
const utc = (value: string) => new asn1.UTCTime({ value })
const extension = (id: string, critical: boolean, value: asn1.BaseBlock) =>
  sequence(
    oid(id),
    ...(critical ? [new asn1.Boolean({ value: true })] : []),
    new asn1.OctetString({ valueHex: value.toBER() }),
  )
const entry = (...extensions: asn1.BaseBlock[]) =>
  sequence(integer(0x1234), utc('260101000000Z'), ...(extensions.length > 0 ? [sequence(...extensions)] : []))

interface Parts {
  readonly version?: asn1.BaseBlock[]
  readonly algorithm?: string
  readonly outerAlgorithm?: string
  readonly dates?: asn1.BaseBlock[]
  readonly entries?: asn1.BaseBlock[]
  readonly extensions?: asn1.BaseBlock[]
  readonly trailing?: asn1.BaseBlock[]
}

/** A list of `ca` put together part by part, so that it can be wrong in one; its signature is always good. */
function craft(parts: Parts = {}): Buffer {
  const algorithm = parts.algorithm ?? ECDSA_SHA256
  const certificate = asn1.fromBER(new X509Certificate(ca.certificate).raw).result as asn1.Sequence
  const subject = (certificate.valueBlock.value[0] as asn1.Sequence).valueBlock.value[5] as asn1.Sequence
  const list = sequence(
    ...(parts.version ?? [integer(1)]),
    sequence(oid(algorithm)),
    subject,
    ...(parts.dates ?? [utc('260101000000Z'), utc('270101000000Z')]),
    ...(parts.entries ? [sequence(...parts.entries)] : []),
    ...(parts.extensions ? [tagged(0, sequence(...parts.extensions))] : []),
    ...(parts.trailing ?? []),
  )
  const signature = sign(algorithm === ECDSA_SHA1 ? 'sha1' : 'sha256', Buffer.from(list.toBER()), ca.issuer.privateKey)
  const signed = sequence(
    list,
    sequence(oid(parts.outerAlgorithm ?? algorithm)),
    new asn1.BitString({ valueHex: new Uint8Array(signature).buffer }),
  )
  return Buffer.from(signed.toBER())
}

const read = async (crl: string | Uint8Array) => (await parseCrls(crl, [ca.certificate]))[0]
const der = (pem: string) => Buffer.from(pem.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64')

describe('a certificate revocation list', () => {
  test.each(['ec', 'rsa'] as const)('of an %s CA names issuer and serials as certificates print them', async (key) => {
    const issuer = await makeCa({ key, name: 'Ä, b=c + d' })
    const [plain, high, short, spared] = await Promise.all(
      [undefined, '80FFEE', '0A', '0B'].map((serial) => issuer.issue(serial ? { serial } : {})),
    )
    const pem = await issuer.crl({ revoked: [plain, high, short].filter((leaf) => leaf !== undefined) })
    const [list] = await parseCrls(pem, [issuer.certificate])
    for (const leaf of [plain, high, short]) {
      const certificate = new X509Certificate(leaf?.certificate ?? '')
      expect(list?.issuer).toBe(certificate.issuer)
      expect(list?.revoked.has(certificate.serialNumber)).toBe(true)
    }
    expect(list?.revoked.has(spared?.serial ?? '')).toBe(false)
    expect(list?.revoked.size).toBe(3)
  })

  test('may revoke nothing, and states its dates', async () => {
    const thisUpdate = new Date('2026-03-01T00:00:00Z')
    const nextUpdate = new Date('2051-03-01T00:00:00Z')
    const list = await read(await ca.crl({ thisUpdate, nextUpdate }))
    expect(list).toEqual({
      issuer: new X509Certificate(ca.certificate).subject,
      thisUpdate,
      nextUpdate,
      revoked: new Set(),
    })
  })

  test('past its next update is returned all the same: the caller judges', async () => {
    const nextUpdate = new Date('2020-01-01T00:00:00Z')
    expect((await read(await ca.crl({ thisUpdate: new Date(0), nextUpdate })))?.nextUpdate).toEqual(nextUpdate)
  })

  test('is read from PEM text, PEM bytes and DER', async () => {
    const pem = await ca.crl({ revoked: ['1234'] })
    for (const form of [pem, `issued today\n\n${pem}`, pem.replaceAll('\n', '\r\n'), Buffer.from(pem), der(pem)]) {
      expect((await read(form))?.revoked).toEqual(new Set(['1234']))
    }
  })

  test('of several CAs can stand in one file, and one CA may have several keys', async () => {
    const other = await makeCa({ name: 'Other' })
    const renewed = await makeCa({ name: 'Other', key: 'rsa' })
    const issuers = [ca, other, renewed].map(({ certificate }) => certificate)
    const all = (await ca.crl({ revoked: ['1'] })) + (await renewed.crl({ revoked: ['2'] })) + (await other.crl())
    const lists = await parseCrls(all, issuers)
    expect(lists.map(({ revoked }) => [...revoked])).toEqual([['01'], ['02'], []])
  })

  test('of 5,000 entries is parsed in well under a second', async () => {
    const revoked = Array.from({ length: 5000 }, () => `5${randomBytes(15).toString('hex')}`)
    const pem = await ca.crl({ revoked })
    const start = performance.now()
    const list = await read(pem)
    expect(performance.now() - start).toBeLessThan(800)
    expect(list?.revoked).toEqual(new Set(revoked.map((serial) => `0${serial}`.slice(-32).toUpperCase())))
  })

  test('in version 1, or with extensions that are understood or do not matter, is accepted', async () => {
    const reason = (code: number) => extension('2.5.29.21', false, new asn1.Enumerated({ value: code }))
    const noted = extension('1.3.6.1.4.1.311.21.1', false, integer(0))
    for (const parts of [
      { version: [], entries: [entry()] },
      {
        entries: [
          entry(reason(6), extension('2.5.29.24', false, new asn1.GeneralizedTime({ value: '20260101000000Z' }))),
        ],
      },
      { entries: [entry(reason(1))], extensions: [extension('2.5.29.20', false, integer(7)), noted] },
    ]) {
      expect((await read(craft(parts)))?.revoked).toEqual(new Set(['1234']))
    }
  })
})

describe('a list is refused', () => {
  const refusals: [string, () => Parts, string][] = [
    ['without a next update', () => ({ dates: [utc('260101000000Z')] }), 'no nextUpdate'],
    [
      'without a next update but with entries',
      () => ({ dates: [utc('260101000000Z')], entries: [entry()] }),
      'no nextUpdate',
    ],
    ['as a delta list', () => ({ extensions: [extension('2.5.29.27', true, integer(1))] }), 'delta CRL'],
    [
      'as a delta list that is not marked critical',
      () => ({ extensions: [extension('2.5.29.27', false, integer(1))] }),
      'delta CRL',
    ],
    [
      'as an indirect or partitioned list',
      () => ({ extensions: [extension('2.5.29.28', true, sequence(tagged(4)))] }),
      'issuing distribution point',
    ],
    [
      'for a critical extension nobody knows',
      () => ({ extensions: [extension('1.2.3.4', true, integer(1))] }),
      'critical extension 1.2.3.4',
    ],
    [
      'for an entry of another issuer',
      () => ({ entries: [entry(extension('2.5.29.29', true, sequence()))] }),
      'critical extension 2.5.29.29',
    ],
    [
      'for an entry that takes a revocation back',
      () => ({ entries: [entry(extension('2.5.29.21', false, new asn1.Enumerated({ value: 8 })))] }),
      'removeFromCRL',
    ],
    [
      'for a reason that is none',
      () => ({ entries: [entry(extension('2.5.29.21', false, integer(1)))] }),
      'reason code',
    ],
    ['for an entry without a date', () => ({ entries: [sequence(integer(5))] }), 'revocationDate'],
    [
      'for an entry with more in it',
      () => ({ entries: [sequence(integer(5), utc('260101000000Z'), sequence(), integer(1))] }),
      'malformed entry',
    ],
    ['for a negative serial', () => ({ entries: [sequence(integer(-5), utc('260101000000Z'))] }), 'negative serial'],
    ['for fields after its end', () => ({ trailing: [integer(1)] }), 'unknown fields'],
    ['for a version nobody knows', () => ({ version: [integer(2)] }), 'version 2'],
    [
      'with extensions in version 1',
      () => ({ version: [], extensions: [extension('2.5.29.20', false, integer(7))] }),
      'version 1',
    ],
    ['for a time with an offset', () => ({ dates: [utc('260101000000Z'), timeText('2701010000+0100')] }), 'nextUpdate'],
    ['for a time that is none', () => ({ dates: [utc('260101000000Z'), timeText('271301000000Z')] }), 'nextUpdate'],
    ['where its algorithms differ', () => ({ outerAlgorithm: '1.2.840.10045.4.3.3' }), 'algorithms differ'],
    ['when signed over SHA-1', () => ({ algorithm: ECDSA_SHA1 }), '1.2.840.10045.4.1 is not accepted'],
    ['for an RSA signature by an EC key', () => ({ algorithm: '1.2.840.113549.1.1.11' }), 'bad signature'],
  ]
  test.each(refusals)('%s', async (_, parts, message) => {
    const refused = read(craft(parts()))
    await expect(refused).rejects.toThrow(RangeError)
    await expect(refused).rejects.toThrow(message)
  })

  test('that a test CA issued without a next update', async () => {
    await expect(read(await ca.crl({ nextUpdate: null }))).rejects.toThrow('no nextUpdate')
  })

  test('when a bit of it has changed anywhere in the signed part', async () => {
    const list = der(await ca.crl({ revoked: ['1234'] }))
    const at = list.indexOf(Buffer.from('1234', 'hex'))
    list[at] = 0x13
    await expect(read(list)).rejects.toThrow(/^CRL: bad signature: no key of "CN=Zoë/)
  })

  test('when another CA of the same name signed it, or a stranger', async () => {
    const impostor = await makeCa({ name: 'Zoë, "the" CA' })
    await expect(read(await impostor.crl())).rejects.toThrow('bad signature')
    await expect(read(await (await makeCa({ name: 'Stranger' })).crl())).rejects.toThrow('issuer is none of the given')
    await expect(parseCrls(await ca.crl(), [])).rejects.toThrow('issuer is none of the given')
  })

  test('when its CA may not sign lists', async () => {
    const keys = await generateKeys('ec')
    const dates = { notBefore: new Date(Date.now() - 1e6), notAfter: new Date(Date.now() + 1e6) }
    const authority = { subject: { commonName: 'CA' }, keys, ...dates, ca: true }
    const limited = await issueCertificate({ ...authority, keyUsage: ['keyCertSign'] })
    const allowed = await issueCertificate({ ...authority, keyUsage: ['cRLSign'] })
    const issuer = { certificate: limited.certificate, privateKey: keys.privateKey }
    const crl = await issueCrl({ issuer, revoked: [], thisUpdate: dates.notBefore, nextUpdate: dates.notAfter })
    await expect(parseCrls(crl, [limited.certificate])).rejects.toThrow('may sign CRLs')
    await expect(parseCrls(crl, [allowed.certificate])).resolves.toHaveLength(1)
  })

  test('with all others of the file, and by its place in it', async () => {
    const good = await ca.crl()
    const stranger = await makeCa({ name: 'Stranger' })
    await expect(read(good + (await stranger.crl()))).rejects.toThrow(/^CRL 2: its issuer/)
  })

  test('when it is none, is cut off, or has something else beside it', async () => {
    const good = await ca.crl({ revoked: ['1234'] })
    const binary = der(good)
    const wrong = ['', 'hello', new Uint8Array(), ca.certificate, good + ca.certificate, good + good.slice(0, 200)]
    for (const text of wrong) await expect(read(text)).rejects.toThrow(/not (a CRL|only CRLs)/)
    const broken = [binary.subarray(0, -1), Buffer.concat([binary, Buffer.alloc(1)]), Buffer.from('3000', 'hex')]
    for (const bytes of broken) await expect(read(bytes)).rejects.toThrow(RangeError)
    await expect(read(new X509Certificate(ca.certificate).raw)).rejects.toThrow(RangeError)
  })

  test('whatever its first bytes are cut to, and always with a RangeError', async () => {
    const binary = der(await ca.crl({ revoked: ['1234'] }))
    for (let length = 1; length < binary.length; length++) {
      await expect(read(binary.subarray(0, length))).rejects.toThrow(RangeError)
    }
  })
})

/** A UTCTime with any text in it: the library would refuse to write it. */
function timeText(text: string): asn1.Primitive {
  return new asn1.Primitive({
    idBlock: { tagClass: 1, tagNumber: 23 },
    valueHex: new Uint8Array(Buffer.from(text)).buffer,
  })
}

test.skipIf(!needs('openssl'))('lists that OpenSSL issues are read, also those of version 1', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'crl-'))
  try {
    const leaf = await ca.issue()
    await Promise.all([
      writeFile(join(folder, 'ca.pem'), ca.certificate),
      writeFile(join(folder, 'ca.key'), ca.key, { mode: 0o600 }),
      writeFile(join(folder, 'leaf.pem'), leaf.certificate),
      writeFile(join(folder, 'index.txt'), ''),
      writeFile(join(folder, 'number'), '1000\n'),
      writeFile(
        join(folder, 'ca.cnf'),
        '[ca]\ndefault_ca=a\n[a]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha384\n[v2]\nauthorityKeyIdentifier=keyid\n',
      ),
    ])
    const openssl = (...args: string[]) =>
      run('openssl', ['ca', '-config', 'ca.cnf', '-cert', 'ca.pem', '-keyfile', 'ca.key', ...args], { cwd: folder })
    await openssl('-revoke', 'leaf.pem', '-crl_reason', 'keyCompromise')
    await openssl('-gencrl', '-crldays', '7', '-crlexts', 'v2', '-out', 'v2.pem')
    await writeFile(join(folder, 'ca.cnf'), '[ca]\ndefault_ca=a\n[a]\ndatabase=index.txt\ndefault_md=sha256\n')
    await openssl('-gencrl', '-crldays', '7', '-out', 'v1.pem')
    for (const name of ['v2.pem', 'v1.pem']) {
      const list = await read(await readFile(join(folder, name)))
      expect(list?.revoked).toEqual(new Set([leaf.serial]))
      expect(list?.issuer).toBe(new X509Certificate(leaf.certificate).issuer)
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
