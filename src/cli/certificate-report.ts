import { createPrivateKey, type X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { GmsaError } from '../base/errors.ts'
import { isValidAt, parseCertificates, type TlsMaterial } from '../server/tls.ts'
import { chainRefusal, chainsTo } from '../server/trust.ts'

const DAY = 86_400_000
/** id-kp-clientAuth, RFC 5280 4.2.1.12. */
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

/** One line about the server's certificate. Throws CONFIG_INVALID when a client could not accept it. */
export function describeServer(material: TlsMaterial, now: number, needsLocalhost: boolean): string {
  const { leaf } = material.certificate.value
  expectValid(leaf, 'the server certificate', now)
  if (needsLocalhost && leaf.checkHost('localhost') === undefined) {
    throw new GmsaError(
      'CONFIG_INVALID',
      'the server certificate is not for localhost, the name the CCG plug-in connects to',
    )
  }
  const authorities = material.authorities.value.certificates.length
  return `server certificate ${leaf.subjectAltName ?? leaf.subject}, ${remaining(leaf, now)}; ${authorities} client CA`
}

/** One line about the plug-in's certificate. Throws CONFIG_INVALID when this service would refuse it. */
export async function describeClient(
  client: { readonly certificate: string; readonly key: string },
  material: TlsMaterial | undefined,
  now: number,
): Promise<string> {
  const [certificatePem, keyPem] = await Promise.all([readFile(client.certificate), readFile(client.key)])
  const [leaf, ...intermediates] = parseCertificates(certificatePem, client.certificate)
  if (!leaf?.checkPrivateKey(createPrivateKey(keyPem))) {
    throw new GmsaError('CONFIG_INVALID', `${client.key}: not the private key of ${client.certificate}`)
  }
  expectValid(leaf, 'the certificate', now)
  const usages: readonly string[] | undefined = leaf.keyUsage
  if (usages && !usages.includes(CLIENT_AUTH)) {
    throw new GmsaError('CONFIG_INVALID', `${client.certificate}: its usages do not include client authentication`)
  }
  const refusal = material && refusalOf(leaf, intermediates, material, now)
  if (refusal) throw new GmsaError('CONFIG_INVALID', `${client.certificate}: ${refusal}`)
  return `${leaf.subject.replaceAll('\n', ', ')}, ${remaining(leaf, now)}`
}

/** With a CRL a chain counts only where the CA file itself has all of it: what clients send along is not seen then. */
function refusalOf(
  leaf: X509Certificate,
  sent: readonly X509Certificate[],
  { trust, revocations }: TlsMaterial,
  now: number,
): string | undefined {
  const refusal = chainRefusal(leaf, trust, now)
  if (refusal === 'revoked') return 'revoked by tls.crl'
  if (!refusal || (!revocations && chainsTo(leaf, trust, now, sent))) return undefined
  return revocations
    ? 'does not chain to tls.clientCa, where with a CRL every intermediate belongs'
    : 'does not chain to tls.clientCa'
}

function expectValid(leaf: X509Certificate, what: string, now: number): void {
  if (isValidAt(leaf, now)) return
  throw new GmsaError('CONFIG_INVALID', `${what} is valid from ${leaf.validFrom} to ${leaf.validTo}, and so not now`)
}

function remaining(leaf: X509Certificate, now: number): string {
  return `${Math.floor((leaf.validToDate.getTime() - now) / DAY)} days left`
}
