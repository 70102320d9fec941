import type { Dispatcher, Pool } from 'undici'
import type { Clock } from '../base/clock.ts'
import { connectionCause } from '../base/connection-causes.ts'
import { GmsaError } from '../base/errors.ts'
import { systemRoots } from './system-roots.ts'

/** PEM: who is trusted (absent: the system's roots), and what this service shows of itself. */
export interface HttpTls {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  /** The name to ask for and to find in the server's certificate; absent: that of the address. */
  readonly servername?: string
}

export interface StoreHttpOptions {
  /** `https://host[:port]`; plain `http:` is taken for loopback addresses alone. A path counts as the start of each. */
  readonly address: string
  /** Asked before each request, so that files can change: another answer than before means new connections. */
  readonly tls?: () => Promise<HttpTls>
  readonly clock: Pick<Clock, 'now'>
}

export interface StoreRequest {
  readonly method?: 'GET' | 'POST' | 'PUT'
  /** Below the address, with its slash; already encoded, see {@link encodePath}. */
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  /** Sent as JSON. */
  readonly body?: unknown
  readonly signal: AbortSignal
}

export interface StoreAnswer {
  readonly status: number
  /** Seconds of `Retry-After`, where the answer has a usable one. */
  readonly retryAfter?: number
  /** The JSON of the body; undefined where it is none. May hold secrets: its parts stand in no error. */
  readonly body: unknown
}

/** A client of one HTTPS server. No redirects are followed and no proxy is used. */
export interface StoreHttp {
  /** Rejects with STORE_UNAVAILABLE and the reason where there is no whole answer, and as `signal` says. */
  request(request: StoreRequest): Promise<StoreAnswer>
  close(): Promise<void>
}

/** A Kubernetes Secret may be 1 MiB, in base64, among metadata; nothing we read is larger. */
const MAX_ANSWER_BYTES = 2 * 1024 * 1024
/** Reads of one store that run side by side; more wait. */
const CONNECTIONS = 8
/** In ms. The caller's signal ends a request long before; this is for what it may have left behind. */
const LAST_RESORT = 60_000
/** A server that asks for more patience than this is asked again all the same, in seconds. */
const MAX_RETRY_AFTER = 3600
const CERTIFICATE = /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----/
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/

/** Prepares a client; it connects when first used. Throws CONFIG_INVALID where the address is none of ours. */
export function openStoreHttp(name: string, { address, tls, clock }: StoreHttpOptions): StoreHttp {
  const url = checkAddress(name, address)
  const start = url.pathname.replace(/\/+$/, '')
  let current: { readonly made: string; readonly pool: Promise<Pool> } | undefined

  /** Sends by the pool for what the files say now. The one before ends when its requests have. */
  async function send(options: Dispatcher.RequestOptions): Promise<StoreAnswer> {
    const material = (await tls?.()) ?? {}
    const made = JSON.stringify(material)
    if (current?.made !== made) {
      void current?.pool.then((old) => old.close()).catch(() => {})
      current = { made, pool: openPool(url, material) }
    }
    // Nothing else is awaited before the request stands in the pool: the next change would close it under us.
    const pool = await current.pool
    return readAnswer(await pool.request(options), clock)
  }

  return {
    async request({ method = 'GET', path, headers = {}, body, signal }) {
      signal.throwIfAborted()
      const json = body === undefined ? undefined : JSON.stringify(body)
      const sent = { accept: 'application/json', ...(json && { 'content-type': 'application/json' }), ...headers }
      try {
        const options = { method, path: start + path, headers: sent, signal, ...(json && { body: json }) }
        const ask = () => send(options)
        return await (method === 'GET' ? ask().catch((error) => askAnew(error, ask)) : ask())
      } catch (thrown) {
        signal.throwIfAborted()
        throw thrown instanceof GmsaError ? thrown : httpError(thrown, url.host)
      }
    },
    async close() {
      const opened = await current?.pool.catch(() => undefined)
      await opened?.destroy()
    },
  }
}

/** A kept connection may end just as it is used: a read is repeated then, once. */
export function askAnew<T>(error: unknown, ask: () => Promise<T>): Promise<T> {
  const { code = '' } = error as NodeJS.ErrnoException
  if (['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'].includes(code)) return ask()
  throw error
}

/** Path segments, each encoded: a name can neither leave its place nor add a query. */
export function encodePath(...segments: readonly string[]): string {
  return segments
    .flatMap((segment) => segment.split('/'))
    .map((each) => `/${each === '.' || each === '..' ? each.replaceAll('.', '%2E') : encodeURIComponent(each)}`)
    .join('')
}

/**
 * What an answer's status means where its meaning is the usual one: 401, 403, 404, 408, 429, 5xx and all others.
 * `hint` says what to do about the first two.
 */
export function statusError(
  { status, retryAfter }: StoreAnswer,
  server: string,
  what: string,
  hint?: string,
): GmsaError {
  if (status === 404) return new GmsaError('ACCOUNT_NOT_FOUND', `${server} has no ${what}`)
  if (status === 401 || status === 403) {
    const meaning = status === 401 ? 'does not know who we are' : 'does not let us read'
    return new GmsaError('STORE_DENIED', `${server} ${meaning}: ${what} (${status})`, {
      reason: 'not-permitted',
      ...(hint !== undefined && { hint }),
    })
  }
  const meaning = status === 429 ? 'asks us to slow down' : `answers ${status}`
  const transient = status === 408 || status === 429 || status >= 500
  return new GmsaError('STORE_UNAVAILABLE', `${server} ${meaning}: ${what}`, {
    ...(retryAfter !== undefined && { retryAfter }),
    ...(!transient && { reason: 'protocol' }),
  })
}

/** `value` as a mapping, or an empty one: for looking into JSON that came from outside. */
export function membersOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}

/** The address of a store: https, or plain http on loopback, and nothing but host and path. Throws CONFIG_INVALID. */
export function checkAddress(name: string, address: string): URL {
  const bad = (expected: string) => new GmsaError('CONFIG_INVALID', `providers.${name}: expected ${expected}`)
  const url = URL.parse(address)
  if (!url || !['https:', 'http:'].includes(url.protocol)) throw bad('an address such as https://store.example.com')
  if (url.protocol === 'http:' && !LOOPBACK.test(url.hostname)) {
    throw bad('https in the address: plain http is for loopback alone')
  }
  if (url.username || url.password || url.search || url.hash) throw bad('an address without user, query and fragment')
  return url
}

/** The library is loaded when a store first asks for it: 40 ms that nobody else waits for. */
async function openPool({ origin, host }: URL, { ca, ...shown }: HttpTls): Promise<Pool> {
  // The runtime takes an empty text for none at all, and would trust the public roots.
  if (ca !== undefined && !CERTIFICATE.test(ca)) {
    throw new GmsaError('STORE_UNAVAILABLE', `${host}: the file of its CA holds no certificate`, {
      reason: 'unknown-ca',
    })
  }
  const { Pool } = await import('undici')
  return new Pool(origin, {
    connections: CONNECTIONS,
    // One way to speak to all servers, and the one that is tested.
    allowH2: false,
    maxResponseSize: MAX_ANSWER_BYTES,
    headersTimeout: LAST_RESORT,
    bodyTimeout: LAST_RESORT,
    connect: { ca: ca ?? systemRoots(), ...shown, rejectUnauthorized: true, minVersion: 'TLSv1.2', timeout: 0 },
  })
}

async function readAnswer(
  { statusCode, headers, body }: Dispatcher.ResponseData,
  clock: Pick<Clock, 'now'>,
): Promise<StoreAnswer> {
  const text = await body.text()
  const retryAfter = parseRetryAfter(headers['retry-after'], clock.now())
  return { status: statusCode, ...(retryAfter !== undefined && { retryAfter }), body: parseJson(text) }
}

/** The parser's own error would quote the text. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Seconds, or a date (RFC 9110 10.2.3); undefined for anything else. */
export function parseRetryAfter(value: string | string[] | undefined, now: number): number | undefined {
  if (typeof value !== 'string') return undefined
  const date = value.endsWith(' GMT') ? Date.parse(value) : Number.NaN
  const seconds = /^\d{1,9}$/.test(value) ? Number(value) : Math.ceil((date - now) / 1000)
  return Number.isNaN(seconds) ? undefined : Math.min(Math.max(seconds, 0), MAX_RETRY_AFTER)
}

/** Without its cause: the library keeps what it could not read, and a secret may be in it. */
function httpError(thrown: unknown, host: string): GmsaError {
  const { code = '', cause } = thrown as NodeJS.ErrnoException
  const inner = connectionCause(code) ?? connectionCause((cause as NodeJS.ErrnoException | undefined)?.code ?? '')
  if (inner) {
    return new GmsaError('STORE_UNAVAILABLE', `${host}: ${inner.meaning}`, { reason: inner.reason, hint: inner.hint })
  }
  const size = code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE'
  const meaning = size
    ? `answers with more than ${MAX_ANSWER_BYTES} bytes`
    : `gives no whole answer (${code || 'error'})`
  return new GmsaError('STORE_UNAVAILABLE', `${host} ${meaning}`, { reason: 'protocol' })
}
