import { X509Certificate } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { generateKeys, issueCertificate, type PermittedNames } from '../../src/crypto/certificate.ts'
import { type NameConstraints, nameConstraintsOf } from '../../src/crypto/name-constraints.ts'

const keys = await generateKeys('ec')

async function ca(permittedNames?: PermittedNames): Promise<X509Certificate> {
  const { certificate } = await issueCertificate({
    subject: { commonName: 'CA' },
    keys,
    notBefore: new Date(0),
    notAfter: new Date(86_400_000),
    ca: true,
    ...(permittedNames && { permittedNames }),
  })
  return new X509Certificate(certificate)
}

/** The certificate with bytes in it exchanged for as many others. Its signature no longer holds; nobody looks at it here. */
function withBytes({ raw }: X509Certificate, from: string, to: string): X509Certificate {
  const hex = raw.toString('hex')
  expect(hex.split(from)).toHaveLength(2)
  return new X509Certificate(Buffer.from(hex.replace(from, to), 'hex'))
}

describe('name constraints', () => {
  test.each<[string, PermittedNames | undefined, NameConstraints | undefined]>([
    ['none', undefined, undefined],
    ['two names', { dns: ['localhost', 'b.test'] }, { critical: true, dns: ['localhost', 'b.test'], addresses: false }],
    [
      'a name and addresses',
      { dns: ['localhost'], ip: ['127.0.0.0/8', '::1/128'] },
      { critical: true, dns: ['localhost'], addresses: true },
    ],
    ['addresses alone', { ip: ['127.0.0.0/8'] }, { critical: true, dns: [], addresses: true }],
    ['URI hosts alone', { uriHost: ['localhost'] }, { critical: true, dns: [], addresses: false }],
  ])('are read: %s', async (_, permitted, expected) => {
    expect(nameConstraintsOf(await ca(permitted))).toEqual(expected)
  })

  test('that permit the empty name permit every name', async () => {
    // A subtree of two letters becomes one of no letter and, to fill the space, an empty minimum.
    const empty = withBytes(await ca({ dns: ['ab'] }), '300482026162', '300482008000')
    expect(nameConstraintsOf(empty)?.dns).toEqual([])
  })

  test('that exclude names permit all others', async () => {
    // permittedSubtrees [0] becomes excludedSubtrees [1].
    const excluding = withBytes(await ca({ dns: ['ab'] }), 'a006300482026162', 'a106300482026162')
    expect(nameConstraintsOf(excluding)).toEqual({ critical: true, dns: [], addresses: false })
  })

  test('that are not critical are told from those that are', async () => {
    // critical TRUE, 01 01 ff, becomes FALSE, which DER leaves out and some write.
    const optional = withBytes(await ca({ dns: ['ab'] }), '0603551d1e0101ff', '0603551d1e010100')
    expect(nameConstraintsOf(optional)?.critical).toBe(false)
  })

  test('that are no DER are told from none', async () => {
    const broken = withBytes(await ca({ dns: ['ab'] }), 'a006300482026162', 'a006300482056162')
    expect(() => nameConstraintsOf(broken)).toThrow(RangeError)
  })
})
