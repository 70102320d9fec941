import type { SecretsManagerClient } from '@aws-sdk/client-secrets-manager'
import { systemRoots } from '../system-roots.ts'

export type Sdk = typeof import('@aws-sdk/client-secrets-manager')

export interface ClientOptions {
  readonly region?: string
  readonly endpoint?: string
}

/** A secret has 64 KiB, which JSON may write with six characters for one. */
const MAX_ANSWER_BYTES = 1024 * 1024
/** Calls that run side by side; more wait. */
const CONNECTIONS = 8
/** In ms. The caller's signal ends a call long before; this is for what it may have left behind. */
const LAST_RESORT = 60_000

/**
 * A client of the service; `ca` are PEM roots beside those of the system, since the token service is asked through it
 * as well. Where credentials come from is the library's own affair, but it reads its files each time.
 */
export function makeClient(sdk: Sdk, { region, endpoint }: ClientOptions, ca?: string): SecretsManagerClient {
  // A setting that the library hands on to its credential chain; its type has no name for it.
  const untyped = { ignoreCache: true }
  return new sdk.SecretsManagerClient({
    ...untyped,
    ...(region !== undefined && { region }),
    ...(endpoint !== undefined && { endpoint }),
    // What may be retried is retried once for all stores, by the broker, which knows the deadline.
    maxAttempts: 1,
    requestHandler: {
      httpsAgent: {
        keepAlive: true,
        maxSockets: CONNECTIONS,
        ca: ca === undefined ? systemRoots() : [...systemRoots(), ca],
        rejectUnauthorized: true,
        minVersion: 'TLSv1.2',
      },
      httpAgent: { keepAlive: true, maxSockets: CONNECTIONS },
      requestTimeout: LAST_RESORT,
      throwOnRequestTimeout: true,
      socketTimeout: LAST_RESORT,
      socketAcquisitionWarningTimeout: LAST_RESORT,
    },
    streamCollector: collectBounded,
  })
}

/** The whole of an answer's body; ends one that is larger than any we expect. */
async function collectBounded(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of body) {
    length += chunk.length
    if (length > MAX_ANSWER_BYTES) throw Object.assign(new Error('answer too large'), { name: 'AnswerTooLarge' })
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
