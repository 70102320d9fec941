import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { at, listAt, only } from './helm.ts'
import type { KubernetesObject } from './kubernetes.ts'
import type { Contents } from './mounted.ts'

/** cert-manager's words for usages, in OpenSSL's. */
const USAGES: Readonly<Record<string, readonly [extension: string, value: string]>> = {
  'digital signature': ['keyUsage', 'digitalSignature'],
  'server auth': ['extendedKeyUsage', 'serverAuth'],
  'client auth': ['extendedKeyUsage', 'clientAuth'],
}

/**
 * Does for the Certificates of a release what cert-manager would, with OpenSSL: the CA signs itself, the others are
 * signed by it. Answers the Secrets that result, as their specs name them.
 */
export function issueCertificates(objects: readonly KubernetesObject[], folder: string): Contents {
  const certificates = objects.filter(({ kind }) => kind === 'Certificate')
  const ca = issue(only(certificates, 'Certificate', '-ca'), folder)
  const leaves = certificates.filter(({ metadata }) => !metadata.name.endsWith('-ca'))
  return Object.fromEntries([ca, ...leaves.map((leaf) => issue(leaf, folder, ca))])
}

type Issued = readonly [name: string, data: Readonly<Record<string, string>>]

function issue({ metadata, spec }: KubernetesObject, folder: string, ca?: Issued): Issued {
  const file = (suffix: string) => join(folder, `${metadata.name}.${suffix}`)
  const read = (suffix: string) => readFileSync(file(suffix), 'utf8')
  const key = at(spec, 'privateKey', 'algorithm') === 'RSA' ? ['rsa'] : ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
  const subject = `CN=${at(spec, 'commonName')}`
  const lines = Object.entries(extensionsOf(spec, ca !== undefined)).map((pair) => pair.join('='))
  const config = [
    '[req]',
    'prompt=no',
    'distinguished_name=dn',
    'x509_extensions=ext',
    '[dn]',
    subject,
    '[ext]',
    ...lines,
  ]
  writeFileSync(file('cnf'), config.join('\n'))
  writeFileSync(file('ca.crt'), ca?.[1]['tls.crt'] ?? '')
  writeFileSync(file('ca.key'), ca?.[1]['tls.key'] ?? '')
  const signer = ca ? ['-CA', file('ca.crt'), '-CAkey', file('ca.key')] : []
  const output = ['-keyout', file('key'), '-out', file('crt')]
  const args = ['-newkey', ...key, '-nodes', '-days', '2', '-config', file('cnf'), ...signer, ...output]
  execFileSync('openssl', ['req', '-x509', ...args], { stdio: 'pipe' })
  const own = { 'tls.crt': read('crt'), 'tls.key': read('key') }
  return [String(at(spec, 'secretName')), { ...own, 'ca.crt': ca?.[1]['tls.crt'] ?? own['tls.crt'] }]
}

function extensionsOf(spec: unknown, leaf: boolean): Record<string, string[]> {
  const names = [
    ...listAt(spec, 'dnsNames').map((name) => `DNS:${name}`),
    ...listAt(spec, 'ipAddresses').map((name) => `IP:${name}`),
    ...listAt(spec, 'uris').map((name) => `URI:${name}`),
  ]
  const permitted = at(spec, 'nameConstraints', 'permitted')
  const masks: Readonly<Record<string, string>> = { 32: '255.255.255.255', 128: Array(8).fill('ffff').join(':') }
  const constraints = [
    ...listAt(permitted, 'dnsDomains').map((name) => `permitted;DNS:${name}`),
    ...listAt(permitted, 'ipRanges').map((range) => {
      const [address, bits = ''] = String(range).split('/')
      return `permitted;IP:${address}/${masks[bits]}`
    }),
  ]
  const extensions: Record<string, string[]> = {}
  for (const usage of listAt(spec, 'usages')) {
    const [extension, value] = USAGES[String(usage)] ?? []
    if (!extension || !value) throw new Error(`not known here: ${usage}`)
    extensions[extension] = [...(extensions[extension] ?? []), value]
  }
  return {
    basicConstraints: ['critical', leaf ? 'CA:false' : 'CA:true'],
    ...(!leaf && { keyUsage: ['critical', 'keyCertSign', 'cRLSign'] }),
    ...extensions,
    ...(names.length > 0 && { subjectAltName: names }),
    ...(constraints.length > 0 && { nameConstraints: ['critical', ...constraints] }),
  }
}
