import type { SecretClientOptions } from '@azure/keyvault-secrets'
import type { Dispatcher } from 'undici'
import { askAnew } from '../http.ts'
import { systemRoots } from '../system-roots.ts'

/** What the libraries of Azure send their requests with. */
export type HttpClient = NonNullable<SecretClientOptions['httpClient']>
type Request = Parameters<HttpClient['sendRequest']>[0]
type Response = Awaited<ReturnType<HttpClient['sendRequest']>>
type Headers = Response['headers']

export interface Transport extends HttpClient {
  close(): Promise<void>
}

/** A secret has 25 KB; a page of versions, and the public keys of an authority, are larger. */
const MAX_ANSWER_BYTES = 1024 * 1024
const CONNECTIONS = 8
/** In ms. The caller's signal ends a call long before; this is for what it may have left behind. */
const LAST_RESORT = 60_000
const LIMITS = {
  connections: CONNECTIONS,
  maxResponseSize: MAX_ANSWER_BYTES,
  headersTimeout: LAST_RESORT,
  bodyTimeout: LAST_RESORT,
} as const

/**
 * Sends the libraries' requests, in place of their own transport, which reads answers of any size and trusts other
 * roots. `ca` are PEM roots beside those of the system. Proxies are those of the environment (HTTPS_PROXY, NO_PROXY),
 * but never for plain http, which only metadata services on this machine speak.
 */
export function openTransport(undici: typeof import('undici'), ca?: string): Transport {
  const trusted = { ca: ca === undefined ? systemRoots() : [...systemRoots(), ca], rejectUnauthorized: true }
  const tls = { ...trusted, minVersion: 'TLSv1.2', timeout: LAST_RESORT } as const
  // The library for managed identities keeps the first transport it was given for good: one that was closed opens anew.
  let agents: { readonly local: Dispatcher; readonly proxied: Dispatcher } | undefined
  const open = () => ({
    local: new undici.Agent(LIMITS),
    proxied: new undici.EnvHttpProxyAgent({ ...LIMITS, connect: tls, requestTls: tls, proxyTls: tls }),
  })

  return {
    async sendRequest(request) {
      agents ??= open()
      const dispatcher = request.url.startsWith('http:') ? agents.local : agents.proxied
      const { method, url } = request
      const options = { dispatcher, method, headers: plainHeaders(request), ...sendable(request) }
      const ask = async () => {
        const { statusCode, headers, body } = await undici.request(url, options)
        return { request, status: statusCode, headers: new ReceivedHeaders(headers), bodyAsText: await body.text() }
      }
      return method === 'GET' ? ask().catch((error) => askAnew(error, ask)) : ask()
    },
    async close() {
      const old = agents
      agents = undefined
      await Promise.all([old?.local.destroy(), old?.proxied.destroy()])
    },
  }
}

function sendable({ body, abortSignal }: Request): { body?: string; signal?: AbortSignal } {
  if (typeof body !== 'string' && body !== null && body !== undefined) throw new TypeError('expected a body of text')
  return {
    ...(typeof body === 'string' && { body }),
    ...(abortSignal instanceof AbortSignal && { signal: abortSignal }),
  }
}

/** As the library wants them, but for compression: an answer is bounded as it comes over the wire. */
function plainHeaders({ headers }: Request): Record<string, string> {
  const entries = Object.entries(headers.toJSON())
  return Object.fromEntries(entries.filter(([name]) => name.toLowerCase() !== 'accept-encoding'))
}

/** Headers of an answer in the form that the libraries read; names in lower case. */
class ReceivedHeaders implements Headers {
  readonly #values = new Map<string, string>()

  constructor(received: Readonly<Record<string, string | readonly string[] | undefined>>) {
    for (const [name, value] of Object.entries(received)) if (value !== undefined) this.set(name, String(value))
  }
  get(name: string): string | undefined {
    return this.#values.get(name.toLowerCase())
  }
  has(name: string): boolean {
    return this.#values.has(name.toLowerCase())
  }
  set(name: string, value: string | number | boolean): void {
    this.#values.set(name.toLowerCase(), String(value))
  }
  delete(name: string): void {
    this.#values.delete(name.toLowerCase())
  }
  toJSON(): Record<string, string> {
    return Object.fromEntries(this.#values)
  }
  [Symbol.iterator](): Iterator<[string, string]> {
    return this.#values.entries()
  }
}
