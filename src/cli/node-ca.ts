import type { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { GmsaError } from '../base/errors.ts'
import { type NameConstraints, nameConstraintsOf } from '../crypto/name-constraints.ts'
import { isValidAt, parseCertificates } from '../server/tls.ts'
import { type Finding, findingOf } from './findings.ts'

/** The names of the one place that says otherwise, in the chart and in the script. */
const HINT =
  'issue it with critical name constraints for localhost; allowUnconstrainedCa (the chart) or -AllowUnconstrained (the script) take it as it is'

/**
 * Whether a Windows node can be made to trust the CA in a PEM file: one certificate, of a CA, valid at `now` (ms since
 * 1970), that can't vouch for every server. Never rejects.
 */
export async function judgeNodeCa(file: string, now: number): Promise<Finding[]> {
  return [await findingOf('node CA', () => describeNodeCa(file, now))]
}

async function describeNodeCa(file: string, now: number): Promise<string> {
  const pem = await readFile(file).catch((error: NodeJS.ErrnoException) => {
    throw new GmsaError('CONFIG_INVALID', `${file}: can't be read (${error.code})`)
  })
  const [ca, ...more] = parseCertificates(pem, file)
  // Windows takes the first of a file and passes over the others.
  if (!ca || more.length > 0) throw new GmsaError('CONFIG_INVALID', `${file}: expected one certificate and no other`)
  if (!ca.ca) throw new GmsaError('CONFIG_INVALID', `${file}: expected the certificate of a CA`)
  if (!isValidAt(ca, now)) {
    throw new GmsaError('CONFIG_INVALID', `${file}: valid from ${ca.validFrom} to ${ca.validTo}, and so not now`)
  }
  const power = powerOf(ca)
  if (power.unlimited) throw new GmsaError('CONFIG_INVALID', `${file}: ${power.unlimited}`, { hint: HINT })
  return `${file}: can vouch for ${power.names}`
}

/**
 * A warning where a CA of the plug-in's service could vouch for every server on the nodes that trust it; undefined
 * where none could.
 */
export function nodeCaWarning(authorities: readonly X509Certificate[]): Finding | undefined {
  const unlimited = authorities.filter((each) => powerOf(each).unlimited !== undefined)
  if (unlimited.length === 0) return undefined
  const names = unlimited.map(({ subject }) => subject.replaceAll('\n', ', ')).join('; ')
  const detail = `a node that trusts it takes its word for every server: ${names}`
  return { subject: 'node CA', state: 'warning', detail, hint: HINT }
}

interface Power {
  /** Why it can vouch for every server; absent where it can't. */
  readonly unlimited?: string
  readonly names: string
}

function powerOf(ca: X509Certificate): Power {
  const constraints = constraintsOf(ca)
  if (constraints === 'unreadable') return { names: '', unlimited: "its name constraints can't be read" }
  if (!constraints) return { names: '', unlimited: 'has no name constraints: it could vouch for every server' }
  if (!constraints.critical) return { names: '', unlimited: 'its name constraints are not critical' }
  if (constraints.dns.length === 0) return { names: '', unlimited: 'its name constraints permit every DNS name' }
  return { names: [...constraints.dns, ...(constraints.addresses ? [] : ['any IP address'])].join(', ') }
}

function constraintsOf(ca: X509Certificate): NameConstraints | 'unreadable' | undefined {
  try {
    return nameConstraintsOf(ca)
  } catch (error) {
    if (error instanceof RangeError) return 'unreadable'
    throw error
  }
}
