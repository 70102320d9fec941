import type { Clock } from '../base/clock.ts'
import { connectionCause } from '../base/connection-causes.ts'
import { GmsaError, type Reason } from '../base/errors.ts'
import { untilAborted } from '../base/until-aborted.ts'
import { type KdcReply, parseKdcReply } from './as-messages.ts'
import { errorName, KRB_ERRORS } from './error-codes.ts'
import type { KdcSockets } from './kdc-sockets.ts'

/** The port of every KDC that does not say otherwise (RFC 4120 7.2.1). */
export const KDC_PORT = 88

/** One KDC, and by which transport it is reached; absent: by both. */
export interface Kdc {
  readonly host: string
  readonly port: number
  readonly transport?: Transport
}

export type Transport = 'udp' | 'tcp'

/** The KDCs of a realm, best first. */
export interface KdcList {
  readonly kdcs: readonly Kdc[]
  /** The greatest request that goes by UDP first, in bytes. Default 1465, as MIT has it. */
  readonly udpPreferenceLimit?: number
}

const UDP_PREFERENCE_LIMIT = 1465

/** How long one KDC is waited for before the next one is asked as well, as MIT does. */
const PATIENCE = 1_000
/** Nobody has more KDCs that are worth the wait. */
const MAX_KDCS = 16

export interface KdcAnswer {
  readonly reply: KdcReply
  readonly kdc: Kdc
}

export interface AskOptions extends KdcList {
  readonly sockets: KdcSockets
  readonly clock: Clock
  /** Ends everything; its reason is what this then rejects with. */
  readonly signal: AbortSignal
}

/** One way to one KDC. */
interface Attempt {
  readonly kdc: Kdc
  readonly transport: Transport
}

/** Why one attempt came to nothing. */
interface Failure {
  readonly reason: Reason
  readonly text: string
}

/**
 * Sends a request to the KDCs in turn and takes the first usable answer: when one fails, or says nothing for a second,
 * the next one is asked, and an answer from those before it still counts. Each is asked by UDP first and, when all
 * were, by TCP; a long request goes the other way round, and an answer too large for UDP is fetched by TCP at once.
 *
 * Rejects with STORE_UNAVAILABLE when all have failed: `protocol` where one spoke nonsense, `refused`, `hang` or
 * `not-found` else. One that stays silent is waited for until `signal` ends it.
 */
export async function askKdcs(request: Uint8Array, options: AskOptions): Promise<KdcAnswer> {
  const ended = new AbortController()
  try {
    return await untilAborted(firstAnswer(request, options, ended.signal), options.signal)
  } finally {
    ended.abort()
  }
}

async function firstAnswer(request: Uint8Array, options: AskOptions, signal: AbortSignal): Promise<KdcAnswer> {
  const { promise: answered, resolve: answer } = Promise.withResolvers<KdcAnswer>()
  const failures: Failure[] = []
  const attempts: Promise<undefined>[] = []
  for (const attempt of attemptsFor(options, request.length)) {
    if (signal.aborted) break
    const over = askOne(request, attempt, options.sockets, signal)
      .then(answer, (error) => failures.push(failureOf(error, attempt)))
      .then(() => undefined)
    attempts.push(over)
    using patience = timer(options.clock, PATIENCE)
    const first = await Promise.race([answered, over, patience.over])
    if (first) return first
  }
  const first = await Promise.race([answered, Promise.all(attempts).then(() => undefined)])
  if (first) return first
  throw allFailed(failures)
}

function attemptsFor({ kdcs, udpPreferenceLimit = UDP_PREFERENCE_LIMIT }: KdcList, length: number): Attempt[] {
  const order: readonly Transport[] = length > udpPreferenceLimit ? ['tcp', 'udp'] : ['udp', 'tcp']
  return order.flatMap((transport) =>
    kdcs
      .slice(0, MAX_KDCS)
      .flatMap((kdc) => (kdc.transport === undefined || kdc.transport === transport ? [{ kdc, transport }] : [])),
  )
}

async function askOne(
  request: Uint8Array,
  { kdc, transport }: Attempt,
  sockets: KdcSockets,
  signal: AbortSignal,
): Promise<KdcAnswer> {
  const reply = parseKdcReply(await sockets[transport](kdc.host, kdc.port, request, signal))
  const code = reply.kind === 'error' ? reply.code : undefined
  if (code === KRB_ERRORS.KRB_ERR_RESPONSE_TOO_BIG && transport === 'udp') {
    return askOne(request, { kdc, transport: 'tcp' }, sockets, signal)
  }
  // One that is starting or has lost its database; the others may do better.
  if (code === KRB_ERRORS.KDC_ERR_SVC_UNAVAILABLE) {
    throw new GmsaError('STORE_UNAVAILABLE', errorName(code), { reason: 'refused' })
  }
  return { reply, kdc }
}

function timer(clock: Clock, ms: number): Disposable & { readonly over: Promise<undefined> } {
  const { promise: over, resolve } = Promise.withResolvers<undefined>()
  const waiting = clock.after(ms, () => resolve(undefined))
  return { over, [Symbol.dispose]: () => waiting[Symbol.dispose]() }
}

/** What ended an attempt; what is no error of the system is one of an answer's form. */
function failureOf(error: unknown, { kdc, transport }: Attempt): Failure {
  const where = `${kdcName(kdc)} by ${transport.toUpperCase()}`
  if (error instanceof GmsaError) return { reason: error.reason ?? 'protocol', text: `${where}: ${error.message}` }
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const known = connectionCause(code)
  if (known) return { reason: known.reason, text: `${where}: ${known.meaning}` }
  if (error instanceof RangeError) return { reason: 'protocol', text: `${where}: ${error.message}` }
  return { reason: 'refused', text: `${where}: ${code || 'unknown error'}` }
}

/** `dc1.ad.test:88`. */
export function kdcName({ host, port }: Kdc): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** The most telling reason first. */
const REASON_ORDER: readonly Reason[] = ['protocol', 'refused', 'hang', 'not-found']

function allFailed(failures: readonly Failure[]): GmsaError {
  const reason = REASON_ORDER.find((each) => failures.some((failure) => failure.reason === each)) ?? 'not-found'
  const texts = failures.map(({ text }) => text).join('; ')
  return new GmsaError('STORE_UNAVAILABLE', `no KDC answers: ${texts || 'none is known'}`, {
    reason,
    hint: 'check the addresses and the firewall: port 88, UDP and TCP',
  })
}
