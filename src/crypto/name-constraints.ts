import type { X509Certificate } from 'node:crypto'
import { contentOf, contextTag, DER, type DerElement, readDer, readDerElement } from './der.ts'

/** What the certificates below a CA are held to (RFC 5280 4.2.1.10), as far as servers have names. */
export interface NameConstraints {
  /** Readers that don't know the extension have to refuse the CA. */
  readonly critical: boolean
  /** Permitted DNS names, each with all below it. Empty: every name is permitted. */
  readonly dns: readonly string[]
  /** Whether IP addresses are constrained too. */
  readonly addresses: boolean
}

/** id-ce-nameConstraints, 2.5.29.30. */
const NAME_CONSTRAINTS = Buffer.from([0x55, 0x1d, 0x1e])
const BOOLEAN = 0x01
const OBJECT_IDENTIFIER = 0x06
/** GeneralName's dNSName [2] and iPAddress [7] (RFC 5280 4.2.1.6): implicit tags, primitive. */
const DNS_NAME = 0x82
const IP_ADDRESS = 0x87

/**
 * The name constraints that a certificate states, or undefined where it states none. Names that are excluded do not
 * count: what is left after them is without end. Throws RangeError where the extension is no DER.
 */
export function nameConstraintsOf(certificate: X509Certificate): NameConstraints | undefined {
  const [tbs] = readDer(readDerElement(certificate.raw, DER.sequence))
  const wrapper = readDer(contentOf(tbs, DER.sequence)).find(({ tag }) => tag === contextTag(3))
  const extensions = wrapper ? readDer(readDerElement(wrapper.content, DER.sequence)) : []
  for (const extension of extensions) {
    const [id, ...rest] = readDer(contentOf(extension, DER.sequence))
    if (!NAME_CONSTRAINTS.equals(contentOf(id, OBJECT_IDENTIFIER))) continue
    // DER leaves the BOOLEAN out where it is false (X.690 11.5); some write it all the same.
    const critical = rest.some(({ tag, content: [value] }) => tag === BOOLEAN && value !== 0)
    return { critical, ...permittedBy(contentOf(rest.at(-1), DER.octetString)) }
  }
  return undefined
}

function permittedBy(value: Uint8Array): Pick<NameConstraints, 'dns' | 'addresses'> {
  const permitted = readDer(readDerElement(value, DER.sequence)).find(({ tag }) => tag === contextTag(0))
  const bases = permitted ? readDer(permitted.content).map(baseOf) : []
  const dns = bases.filter(({ tag }) => tag === DNS_NAME).map(({ content }) => Buffer.from(content).toString('latin1'))
  // An empty name is an ancestor of all.
  return { dns: dns.includes('') ? [] : dns, addresses: bases.some(({ tag }) => tag === IP_ADDRESS) }
}

/** The name of a GeneralSubtree. */
function baseOf(subtree: DerElement): DerElement {
  const [base] = readDer(contentOf(subtree, DER.sequence))
  if (!base) throw new RangeError('a subtree without a name')
  return base
}
