import type { FastifyReply, FastifyRequest } from 'fastify'
import { GmsaError } from '../base/errors.ts'
import type { Told } from '../broker/answers.ts'
import type { Broker } from '../broker/broker.ts'
import { answerError } from './answer-error.ts'
import type { Peers } from './peers.ts'
import type { Waits } from './waits.ts'

/** What the routes of one account share. */
export interface AccountContext {
  readonly broker: Broker
  readonly peers: Pick<Peers, 'judge'>
  readonly waits: Waits
}

/** The longest a client may ask to be held, in s. */
const MAX_WAIT = 300

/**
 * Answers with what `read` gives: headers, then `send`, or 304 where the client has it already (RFC 9110 13.1.2). With
 * `Prefer: wait=N` (RFC 7240 4.3) such an answer is held until there is another; who asks is judged again before that.
 * Rejects with a GmsaError.
 */
export async function answerConditionally<T extends Told>(
  request: FastifyRequest<{ Params: { account: string } }>,
  reply: FastifyReply,
  context: AccountContext,
  read: () => Promise<T>,
  send: (answer: T) => FastifyReply,
): Promise<FastifyReply> {
  const { account } = request.params
  noteAccount(request, context.broker)
  let answer = await read()
  const wait = waitOf(request)
  if (wait !== undefined && tagsOf(request).includes(answer.tag)) {
    reply.header('preference-applied', `wait=${wait}`)
    const { tag } = answer
    const refused = await hold(request, reply, context, {
      timeout: wait * 1000,
      account,
      async look() {
        answer = await read()
        return answer.tag !== tag
      },
    })
    if (refused) return refused
  }
  tell(request, reply, answer)
  const tags = tagsOf(request)
  if (tags.includes(answer.tag) || tags.includes('*')) return reply.code(304).send()
  return send(answer)
}

/** For the audit line, whatever comes of it. */
function noteAccount(request: FastifyRequest<{ Params: { account: string } }>, broker: Broker): void {
  const { account } = request.params
  request.notes.account = account.slice(0, 253)
  const provider = broker.providerOf(account)
  if (provider) request.notes.provider = provider
}

interface Hold {
  readonly timeout: number
  readonly account: string
  readonly look: () => Promise<boolean>
}

/** Holds the request; an answer comes back where the client is not trusted any more. */
async function hold(
  request: FastifyRequest,
  reply: FastifyReply,
  { broker, peers, waits }: AccountContext,
  { timeout, account, look }: Hold,
): Promise<FastifyReply | undefined> {
  const { peer } = request.notes
  const gone = new AbortController()
  reply.raw.once('close', () => gone.abort())
  let refusal: string | undefined
  const started = performance.now()
  try {
    await waits.hold({
      client: peer?.client?.certificate.fingerprint256 ?? 'anonymous',
      timeout,
      signal: gone.signal,
      onChange: (changed) => broker.onChange(account, changed),
      async look() {
        refusal = peer ? peers.judge(peer) : 'untrusted'
        return refusal !== undefined || (await look())
      },
    })
  } finally {
    request.notes.held = performance.now() - started
  }
  if (waits.ended) reply.header('connection', 'close')
  if (refusal === undefined) return undefined
  const error = new GmsaError('CERTIFICATE_REFUSED', refusal)
  return answerError(request, reply, error, { bare: true, closeConnection: true })
}

/** The headers that answers and 304s share, and what the audit line says of them. */
function tell({ notes }: FastifyRequest, reply: FastifyReply, { tag, stale, refreshAt, kvno, server }: Told): void {
  reply.header('cache-control', 'no-store').header('etag', `"${tag}"`)
  if (refreshAt !== undefined) reply.header('gmsa-refresh-at', timestamp(refreshAt))
  if (kvno !== undefined) notes.kvno = kvno
  if (server !== undefined) notes.server = server
  if (stale === undefined) return
  notes.stale = stale
  reply.header('gmsa-stale', stale)
}

/** RFC 3339 in UTC, whole seconds, never before `time` in ms since 1970. */
export function timestamp(time: number): string {
  return new Date(Math.ceil(time / 1000) * 1000).toISOString().replace('.000Z', 'Z')
}

/** The tags of If-None-Match, without quotes; compared weakly, as it has to be. */
function tagsOf({ headers }: FastifyRequest): string[] {
  const field = headers['if-none-match']?.trim() ?? ''
  if (field === '*') return ['*']
  return [...field.matchAll(/(?:W\/)?"([!#-~]*)"/g)].map(([, tag = '']) => tag)
}

/** The seconds of `Prefer: wait`, at most 300; undefined where there is none or 0. */
function waitOf({ headers }: FastifyRequest): number | undefined {
  const field = [headers['prefer'] ?? []].flat().join(',')
  const seconds = Number(/(?:^|,)\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:[,;]|$)/i.exec(field)?.[1] ?? 0)
  return seconds > 0 ? Math.min(seconds, MAX_WAIT) : undefined
}
