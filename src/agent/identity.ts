import { createPrivateKey, hash, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { Agent } from 'node:https'
import { createSecureContext } from 'node:tls'
import { GmsaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { IdentityFiles } from './config.ts'

/** What a TLS client says of itself, and whom it believes. */
export interface Identity {
  /** Makes a connection of its own for each request; they share certificates and key, parsed once. */
  readonly connections: Agent
  /** When the certificate ends. */
  readonly expires: Date
}

/** The client's certificate and key, and the CA of the service, as the files have them now. */
export interface IdentitySource {
  /** The files' contents; while they can't be used, the last ones that could. Rejects with CONFIG_INVALID. */
  load(): Promise<Identity>
  /** What was loaded last. */
  readonly current: Identity | undefined
}

/**
 * Reads the files at each call: whoever connects once in minutes needs no watches, and a rotated certificate counts
 * from the next connection on. A pair that is just being replaced, and does not fit together, is not taken.
 */
export function openIdentity(files: IdentityFiles, log: Log): IdentitySource {
  let good: Identity | undefined
  /** Digest of the files that `good` was made of. */
  let known = ''
  let refused = ''
  return {
    async load() {
      try {
        const pem = await Promise.all([readPem(files.certificate), readPem(files.key), readPem(files.ca)])
        const digest = pem.map((bytes) => hash('sha256', bytes)).join()
        if (good && digest === known) return good
        const identity = parseIdentity(files, pem)
        if (good) log.info({ certificate: files.certificate, expires: identity.expires }, 'certificate taken up')
        good = identity
        known = digest
        refused = ''
        return identity
      } catch (thrown) {
        if (!good || !(thrown instanceof GmsaError)) throw thrown
        if (thrown.message !== refused)
          log.warn({ problem: thrown.message }, 'TLS files not taken; the last good ones stay')
        refused = thrown.message
        return good
      }
    },
    get current() {
      return good
    },
  }
}

async function readPem(file: string): Promise<Buffer> {
  return readFile(file).catch((error: NodeJS.ErrnoException) => {
    throw new GmsaError('CONFIG_INVALID', `${file}: can't be read (${error.code})`)
  })
}

function parseIdentity(files: IdentityFiles, [cert, key, ca]: readonly [Buffer, Buffer, Buffer]): Identity {
  try {
    const certificate = new X509Certificate(cert)
    new X509Certificate(ca)
    // Of different kinds, such as RSA and EC, TLS would take both, and show no certificate.
    if (!certificate.checkPrivateKey(createPrivateKey(key))) {
      throw new GmsaError('CONFIG_INVALID', `${files.key}: not the private key of ${files.certificate}`)
    }
    const secureContext = createSecureContext({ cert, key, ca, minVersion: 'TLSv1.2' })
    return { connections: new Agent({ secureContext, maxCachedSessions: 0 }), expires: certificate.validToDate }
  } catch (error) {
    if (error instanceof GmsaError) throw error
    const names = `${files.certificate}, ${files.key} or ${files.ca}`
    throw new GmsaError('CONFIG_INVALID', `${names}: no PEM that TLS can use`, { cause: error })
  }
}
