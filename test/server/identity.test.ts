import { webcrypto, X509Certificate } from 'node:crypto'
import * as asn1 from 'asn1js'
import fc from 'fast-check'
import {
  AttributeTypeAndValue,
  Certificate,
  CryptoEngine,
  Extension,
  GeneralName,
  PublicKeyInfo,
  RelativeDistinguishedNames,
} from 'pkijs'
import { beforeAll, describe, expect, test } from 'vitest'
import { makePolicy } from '../../src/broker/policy.ts'
import { generateKeys, type KeyPair } from '../../src/crypto/certificate.ts'
import { parseSubjectAltName, readClientCertificate } from '../../src/server/client-certificate.ts'
import { makePki } from '../fakes/pki.ts'
import { makeRig } from '../fakes/rig.ts'

const EVIL = 'spiffe://evil'

/** Raw bytes of one general name, with its tag of RFC 5280 4.2.1.6. */
interface RawName {
  readonly tag: 1 | 2 | 6 | 'directory' | 'other' | 'ip' | 'registered'
  readonly bytes: string | Buffer
}

const dns = (bytes: string | Buffer): RawName => ({ tag: 2, bytes })
const uri = (bytes: string | Buffer): RawName => ({ tag: 6, bytes })
const email = (bytes: string | Buffer): RawName => ({ tag: 1, bytes })
const other = (bytes: string | Buffer): RawName => ({ tag: 'other', bytes })
const directory = (bytes: string | Buffer): RawName => ({ tag: 'directory', bytes })

const engine = new CryptoEngine({ name: 'node', crypto: webcrypto })
let keys: KeyPair
let signingKey: webcrypto.CryptoKey
beforeAll(async () => {
  keys = await generateKeys('ec')
  signingKey = keys.privateKey.toCryptoKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
})

const arrayBuffer = (bytes: string | Buffer) => new Uint8Array(Buffer.from(bytes)).buffer

/** A self-signed certificate with any bytes as names: no library would write these on purpose. */
async function certificateWith(names: readonly RawName[], commonNames: readonly string[] = ['test']) {
  const certificate = new Certificate()
  certificate.version = 2
  certificate.serialNumber = new asn1.Integer({ value: 7 })
  const typesAndValues = commonNames.map(
    (value) => new AttributeTypeAndValue({ type: '2.5.4.3', value: new asn1.Utf8String({ value }) }),
  )
  certificate.subject = new RelativeDistinguishedNames({ typesAndValues })
  certificate.issuer = certificate.subject
  certificate.notBefore.value = new Date(Date.now() - 3_600_000)
  certificate.notAfter.value = new Date(Date.now() + 3_600_000)
  certificate.subjectPublicKeyInfo = PublicKeyInfo.fromBER(
    new Uint8Array(keys.publicKey.export({ type: 'spki', format: 'der' })),
  )
  if (names.length > 0) {
    const sequence = new asn1.Sequence({ value: names.map(encode) })
    certificate.extensions = [new Extension({ extnID: '2.5.29.17', critical: false, extnValue: sequence.toBER() })]
  }
  await certificate.sign(signingKey, 'SHA-256', engine)
  return new X509Certificate(Buffer.from(certificate.toSchema(true).toBER()))
}

function encode({ tag, bytes }: RawName): asn1.BaseBlock {
  const context = (tagNumber: number) => ({ tagClass: 3, tagNumber })
  if (tag === 'ip') return new asn1.Primitive({ idBlock: context(7), valueHex: arrayBuffer(bytes) })
  if (tag === 'registered') return new asn1.Primitive({ idBlock: context(8), valueHex: arrayBuffer(bytes) })
  if (typeof tag === 'number') return new asn1.Primitive({ idBlock: context(tag), valueHex: arrayBuffer(bytes) })
  const text = new asn1.Utf8String({ value: bytes.toString('utf8') } as never)
  if (tag === 'other') {
    // A user principal name, which node knows how to print.
    const value = [
      new asn1.ObjectIdentifier({ value: '1.3.6.1.4.1.311.20.2.3' }),
      new asn1.Constructed({ idBlock: context(0), value: [text] }),
    ]
    return new asn1.Constructed({ idBlock: context(0), value })
  }
  const name = new RelativeDistinguishedNames({
    typesAndValues: [new AttributeTypeAndValue({ type: '2.5.4.3', value: text })],
  })
  return new GeneralName({ type: 4, value: name }).toSchema() as asn1.BaseBlock
}

async function read(names: readonly RawName[], commonNames?: readonly string[]) {
  return readClientCertificate(await certificateWith(names, commonNames))
}

describe('readClientCertificate', () => {
  test('takes URI and DNS names, the common name and the fingerprint', async () => {
    const x509 = await certificateWith(
      [uri('spiffe://a/b'), dns('one.example'), uri('urn:x'), dns('two.example')],
      ['me'],
    )
    expect(readClientCertificate(x509)).toMatchObject({
      uris: ['spiffe://a/b', 'urn:x'],
      dnsNames: ['one.example', 'two.example'],
      commonName: 'me',
      fingerprint256: x509.fingerprint256.replaceAll(':', '').toLowerCase(),
      serialNumber: '07',
      label: 'spiffe://a/b',
    })
  })

  test('calls a client by its first URI, else DNS name, else common name, else fingerprint', async () => {
    expect((await read([dns('one.example'), uri('urn:x')])).label).toBe('urn:x')
    expect((await read([dns('one.example')])).label).toBe('one.example')
    expect((await read([], ['me'])).label).toBe('me')
    expect((await read([email('a@b')], [])).label).toMatch(/^[0-9a-f]{64}$/)
  })

  test('takes no common name when there are none, or two', async () => {
    expect((await read([], [])).commonName).toBeUndefined()
    expect((await read([], ['one', 'two'])).commonName).toBeUndefined()
    expect((await read([], ['one', 'one'])).commonName).toBeUndefined()
  })

  test('a common name ends where its bytes end, not at a NUL or a line break', async () => {
    for (const name of ['admin\0.evil', 'admin\n', 'admin\nCN=other', 'ádmin', 'admin, URI:spiffe://evil']) {
      const { commonName } = await read([], [name])
      expect([name, undefined]).toContain(commonName)
    }
  })

  test.each([
    ['a comma', `x, URI:${EVIL}`],
    ['a quote', `x", URI:${EVIL}`],
    ['a quote and a backslash', `x\\", URI:${EVIL}`],
    ['a whole quoted name', `"x", URI:"${EVIL}"`],
    ['a NUL', `x\0, URI:${EVIL}`],
    ['a line break', `x\r\n, URI:${EVIL}`],
    ['a tab and DEL', `x\t\u007f, URI:${EVIL}`],
    ['UTF-8', `é\u2028, URI:${EVIL}`],
    ['an apostrophe', `x', URI:${EVIL}`],
    ['only the separator', ', '],
    ['nothing', ''],
  ])('a DNS name that holds %s is one name', async (_what, name) => {
    const client = await read([dns(name)])
    expect(client.uris).toEqual([])
    expect(client.dnsNames.length).toBeLessThanOrEqual(1)
    const asBytes = Buffer.from(name, 'utf8').toString('latin1')
    if (client.dnsNames.length > 0) expect([name, asBytes]).toContain(client.dnsNames[0])
    // As another kind of name it is nobody.
    for (const kind of [email, other, directory]) {
      const { uris, dnsNames } = await read([kind(name)])
      expect([uris, dnsNames]).toEqual([[], []])
    }
  })

  test('a name with a NUL does not match what stands before it', async () => {
    const policy = makePolicy({
      rules: [{ match: { dns: 'admin.example' }, allow: ['credential'], accounts: ['*'] }],
      openAccounts: new Set(),
    })
    const allows = async (name: string) => policy.grantFor(await read([dns(name)])).allows('a', 'credential')
    expect(await allows('admin.example')).toBe(true)
    for (const name of [
      'admin.example\0.evil',
      'admin.example\n',
      ' admin.example',
      '"admin.example"',
      'admin.example.',
    ])
      expect(await allows(name)).toBe(false)
  })

  test('names of kinds that are printed in other ways do no harm to those beside them', async () => {
    const client = await read([
      { tag: 'ip', bytes: Buffer.from([127, 0, 0, 1]) },
      uri('urn:good'),
      { tag: 'registered', bytes: Buffer.from([0x2a, 3]) },
      other('user@example'),
      directory('someone'),
      dns('good.example'),
    ])
    expect([client.uris, client.dnsNames]).toEqual([['urn:good'], ['good.example']])
  })

  test('an IP address of a wrong length gives no name', async () => {
    const client = await read([{ tag: 'ip', bytes: Buffer.from([1, 2, 3]) }]).catch(() => undefined)
    expect(client?.uris ?? []).toEqual([])
  })

  test('no content of any name injects another identity', async () => {
    const hostile = fc.oneof(
      fc.constantFrom(
        ', ',
        'URI:',
        'DNS:',
        EVIL,
        '"',
        '\\',
        '\\"',
        "'",
        '\0',
        '\n',
        ':',
        'othername:',
        '<',
        'é',
        '\u2028',
      ),
      fc.string({ maxLength: 4 }),
    )
    const bytes = fc.array(hostile, { maxLength: 8 }).map((parts) => parts.join(''))
    const kinds = fc.constantFrom(dns, uri, email, other, directory)
    const names = fc.array(fc.tuple(kinds, bytes), { minLength: 1, maxLength: 4 })
    await fc.assert(
      fc.asyncProperty(names, async (chosen) => {
        const client = await read(chosen.map(([kind, text]) => kind(text)))
        const given = (kind: typeof dns) =>
          chosen
            .filter(([each]) => each === kind)
            .flatMap(([, text]) => [text, Buffer.from(text, 'utf8').toString('latin1')])
        for (const each of client.uris) expect(given(uri)).toContain(each)
        for (const each of client.dnsNames) expect(given(dns)).toContain(each)
        expect(client.uris.length).toBeLessThanOrEqual(chosen.filter(([kind]) => kind === uri).length)
        expect(client.dnsNames.length).toBeLessThanOrEqual(chosen.filter(([kind]) => kind === dns).length)
      }),
      { numRuns: 400 },
    )
  })
})

describe('parseSubjectAltName', () => {
  test.each(['URI', 'URI:a, ', 'URI:a,DNS:b', 'URI:"a', 'URI:"a"b"', ', URI:a', 'X400Name:<unsupported>, URI:a'])(
    'a print that does not follow the grammar gives no names: %s',
    (printed) => {
      const values = parseSubjectAltName(printed).map(({ value }) => value)
      expect(values).not.toContain('a')
      expect(values).not.toContain('b')
    },
  )

  test('never throws and never hangs, whatever it is given', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('"', '\\', ',', ' ', ':', 'a', 'U'), maxLength: 300 }), (text) => {
        expect(Array.isArray(parseSubjectAltName(text))).toBe(true)
      }),
    )
    const started = performance.now()
    parseSubjectAltName(`URI:${'"\\'.repeat(50_000)}`)
    parseSubjectAltName(`URI:${'""'.repeat(50_000)}x"`)
    expect(performance.now() - started).toBeLessThan(1_000)
  })
})

test('the log names the client by its first URI, with its serial', async () => {
  const pki = await makePki({ uri: ['spiffe://localhost/node/one'], dns: ['node.example'] })
  await using rig = await makeRig({ pki })
  await rig.provider('test-secret')
  const line = rig.lines.find(({ message }) => message === 'request')
  expect(line).toMatchObject({
    client: 'spiffe://localhost/node/one',
    serial: pki.client.serial,
    account: 'test-secret',
  })
})
