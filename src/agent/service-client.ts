import type { ClientRequest, IncomingMessage } from 'node:http'
import { request } from 'node:https'
import type { Clock } from '../base/clock.ts'
import { connectionCause } from '../base/connection-causes.ts'
import { ERRORS, type ErrorCode, GmsaError } from '../base/errors.ts'
import { MAX_KEYTAB_BYTES } from '../kerberos/keytab.ts'
import type { Identity } from './identity.ts'

export interface ServiceClientOptions {
  /** Origins, tried in turn beginning with the one that answered last. */
  readonly servers: readonly string[]
  /** How long all of them together may take, in ms. */
  readonly timeout: number
  readonly identity: () => Promise<Identity>
  readonly clock: Clock
}

export interface KeytabQuery {
  readonly account: string
  readonly use: 'acceptor' | 'initiator'
  /** Only these; none: all of the account's. */
  readonly principals?: readonly string[]
  /** The tag of what the caller has. */
  readonly etag?: string | undefined
  /** Seconds the service may hold the answer as long as the caller has the newest. */
  readonly wait?: number
  readonly signal?: AbortSignal
}

export interface KeytabReply {
  /** The origin that answered. */
  readonly server: string
  /** Absent: the caller has it. Whoever takes them wipes them. */
  readonly bytes?: Buffer
  readonly etag?: string
  /** When to ask again, in ms since 1970. */
  readonly refreshAt?: number
  /** Seconds since the store said so, where it is out now. */
  readonly stale?: number
  /** Whether the service holds requests. */
  readonly held: boolean
}

/** Asks our own service. */
export interface ServiceClient {
  /** Rejects with a GmsaError, or with the signal's reason. */
  keytab(query: KeytabQuery): Promise<KeytabReply>
}

/** A client over mutual TLS, with a connection of its own for each request: there are few, and minutes between them. */
export function makeServiceClient({ servers, timeout, identity, clock }: ServiceClientOptions): ServiceClient {
  let last = 0

  async function tryInTurn(query: KeytabQuery): Promise<KeytabReply> {
    const { connections } = await identity()
    const until = clock.monotonic() + timeout
    const failures: GmsaError[] = []
    for (let turn = 0; turn < servers.length; turn++) {
      const place = (last + turn) % servers.length
      const server = servers[place] ?? ''
      // What is left is shared among those that are left, so that the last one is still asked in time.
      const limit = (until - clock.monotonic()) / (servers.length - turn)
      try {
        const reply = await ask(server, { query, limit, clock, connections })
        last = place
        return reply
      } catch (thrown) {
        if (!(thrown instanceof GmsaError && ELSEWHERE.has(thrown.code))) throw thrown
        failures.push(thrown)
      }
    }
    throw joined(failures)
  }

  return { keytab: tryInTurn }
}

/** The first one's kind, and the words of all. */
function joined(failures: readonly GmsaError[]): GmsaError {
  const [first, ...others] = failures
  if (!first) return new GmsaError('CONFIG_INVALID', 'servers: expected at least one address')
  if (others.length === 0) return first
  const { code, reason, hint, retryAfter, cause } = first
  return new GmsaError(code, failures.map(({ message }) => message).join('; '), {
    cause,
    ...(reason && { reason }),
    ...(hint && { hint }),
    ...(retryAfter && { retryAfter }),
  })
}

/** What another address may do better. */
const ELSEWHERE: ReadonlySet<ErrorCode> = new Set([
  'STORE_UNAVAILABLE',
  'STORE_TIMEOUT',
  'STORE_DENIED',
  'OVERLOADED',
  'DRAINING',
  'RATE_LIMITED',
  'INTERNAL',
])

interface Attempt {
  readonly query: KeytabQuery
  /** In ms, for all of it; where the answer is held for the handshake, and once more for the answer when it is due. */
  readonly limit: number
  readonly clock: Clock
  readonly connections: Identity['connections']
}

async function ask(server: string, { query, limit, clock, connections }: Attempt): Promise<KeytabReply> {
  const { account, etag, wait = 0, signal } = query
  signal?.throwIfAborted()
  const url = urlOf(server, query)
  const holds = wait > 0 && etag !== undefined
  const headers = {
    ...(etag !== undefined && { 'if-none-match': etag }),
    ...(holds && { prefer: `wait=${wait}` }),
  }
  const { promise, resolve, reject } = Promise.withResolvers<KeytabReply>()
  const outgoing = request(url, { headers, agent: connections })
  let timer: Disposable | undefined
  const allow = (ms: number) => {
    timer?.[Symbol.dispose]()
    timer = clock.after(ms, () => outgoing.destroy(new SilenceError()))
  }
  const abort = () => outgoing.destroy()
  allow(limit)
  signal?.addEventListener('abort', abort, { once: true })
  outgoing.on('error', (error) => reject(unreachable(url, limit, error)))
  outgoing.on('socket', (socket) => {
    socket.setKeepAlive(true, KEEP_ALIVE)
    if (holds) socket.once('secureConnect', () => allow(limit + wait * 1000))
  })
  outgoing.on('response', (response) => {
    if (holds) allow(limit)
    const reply = collect(outgoing, response).then((bytes) => replyOf(server, account, response, bytes))
    reply.then(resolve, reject)
  })
  outgoing.end()
  try {
    return await promise
  } catch (thrown) {
    signal?.throwIfAborted()
    throw thrown instanceof GmsaError ? thrown : unreachable(url, limit, thrown)
  } finally {
    timer?.[Symbol.dispose]()
    signal?.removeEventListener('abort', abort)
  }
}

/** Finds a dead peer behind a held request, in ms. */
const KEEP_ALIVE = 30_000

class SilenceError extends Error {}

function urlOf(server: string, { account, use, principals = [] }: KeytabQuery): URL {
  const url = URL.parse(`/v1/accounts/${encodeURIComponent(account)}/keytab`, server)
  if (url?.protocol !== 'https:') {
    throw new GmsaError('CONFIG_INVALID', 'the address of the service: expected https://HOST:PORT')
  }
  url.searchParams.set('for', use)
  for (const principal of principals) url.searchParams.append('principal', principal)
  return url
}

/** The body, bounded. */
async function collect(outgoing: ClientRequest, response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > MAX_KEYTAB_BYTES) {
      outgoing.destroy()
      throw new GmsaError('MATERIAL_MALFORMED', 'the answer is larger than any keytab')
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function replyOf(
  server: string,
  account: string,
  { statusCode, headers }: IncomingMessage,
  bytes: Buffer,
): KeytabReply {
  if (statusCode !== 200 && statusCode !== 304) throw refusal(account, statusCode, headers)
  const refreshAt = Date.parse(headerOf(headers, 'gmsa-refresh-at') ?? '')
  const stale = headerOf(headers, 'gmsa-stale')
  return {
    server,
    ...(statusCode === 200 && { bytes }),
    ...(headers.etag !== undefined && { etag: headers.etag }),
    ...(!Number.isNaN(refreshAt) && { refreshAt }),
    ...(stale !== undefined && { stale: Number(stale) }),
    held: headers['preference-applied'] !== undefined,
  }
}

function headerOf(headers: IncomingMessage['headers'], name: string): string | undefined {
  const value = headers[name]
  return typeof value === 'string' ? value : undefined
}

/** An answer that is none: in the service's own words, as far as it is our service. */
function refusal(account: string, status: number | undefined, headers: IncomingMessage['headers']): GmsaError {
  const said = headerOf(headers, 'gmsa-error') ?? ''
  const code = isErrorCode(said) ? said : 'STORE_UNAVAILABLE'
  const retryAfter = Number(headers['retry-after'] ?? Number.NaN)
  return new GmsaError(code, `${account}: the service answers ${status} ${said}`.trim(), {
    ...(retryAfter > 0 && { retryAfter }),
    hint:
      status === 404
        ? 'the account does not exist, or the policy does not allow this certificate its keytab: look at clients[].allow'
        : 'the audit line of the service says more',
  })
}

const isErrorCode = (text: string): text is ErrorCode => Object.hasOwn(ERRORS, text)

function unreachable({ host }: URL, limit: number, thrown: unknown): GmsaError {
  if (thrown instanceof SilenceError) {
    const seconds = Math.round(limit / 100) / 10
    return new GmsaError('STORE_TIMEOUT', `${host}: no answer within ${seconds} s`, { reason: 'hang' })
  }
  const error = thrown instanceof Error ? thrown : new Error(String(thrown))
  // Of several addresses of one name each has its own error.
  const first = error instanceof AggregateError && error.errors[0] instanceof Error ? error.errors[0] : error
  const code = 'code' in first ? String(first.code) : first.message
  const reason = connectionCause(code)?.reason
  return new GmsaError('STORE_UNAVAILABLE', `${host}: ${code}`, { cause: error, ...(reason && { reason }) })
}
