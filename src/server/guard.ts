import type { IncomingMessage } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { GmsaError } from '../base/errors.ts'
import { answerError } from './answer-error.ts'
import type { Peers } from './peers.ts'

export interface Drain {
  /** Stopping: clients are told to open no more requests on their connection. */
  draining: boolean
  /** The listener is closed: what comes now is turned away. */
  closed: boolean
}

/** The first look at every request that was routed; what no route takes ends here. */
export function addGuard(app: FastifyInstance, peers: Peers, drain: Readonly<Drain>): void {
  app.addHook('onRequest', (request, reply, next) => {
    if (!guard(request, reply, peers, drain)) return
    if (request.is404) answerError(request, reply, new GmsaError('ROUTE_NOT_FOUND', 'no such path or method'))
    else next()
  })
}

/**
 * Is this client still trusted, are we stopping, is it a request at all? Notes who asks. False: it is answered already.
 */
export function guard(request: FastifyRequest, reply: FastifyReply, peers: Peers, drain: Readonly<Drain>): boolean {
  const peer = peers.of(request.raw.socket)
  request.notes = { peer }
  const refusal = peer ? peers.judge(peer) : 'untrusted'
  if (refusal) {
    const error = new GmsaError('CERTIFICATE_REFUSED', refusal)
    answerError(request, reply, error, { bare: true, closeConnection: true })
    return false
  }
  if (drain.draining) reply.header('connection', 'close')
  // A connection that came in before the listener closed gets its first request answered all the same.
  const late = drain.closed && peer?.served
  if (peer) peer.served = true
  const fault = late ? new GmsaError('DRAINING', 'stopping', { retryAfter: 1 }) : faultOf(request.raw)
  if (fault) answerError(request, reply, fault)
  return fault === undefined
}

/** Whether there is more than one Host: node shows the first of them, and RFC 9112 3.2 wants 400. */
export function repeatsHost({ rawHeaders }: IncomingMessage): boolean {
  const isHost = (text: string, index: number) => index % 2 === 0 && text.toLowerCase() === 'host'
  return rawHeaders.findIndex(isHost) !== rawHeaders.findLastIndex(isHost)
}

/** No route of this listener reads a body, so none is waited for. */
function faultOf(request: IncomingMessage): GmsaError | undefined {
  const { headers, httpVersion } = request
  if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0) {
    if (request.method === 'GET') return new GmsaError('REQUEST_TOO_LARGE', 'a body where none belongs')
  }
  if (httpVersion === '1.1' && headers.host === undefined) return new GmsaError('REQUEST_INVALID', 'no Host header')
  if (repeatsHost(request)) return new GmsaError('REQUEST_INVALID', 'more than one Host header')
  if (headers.expect !== undefined && headers.expect.toLowerCase() !== '100-continue') {
    return new GmsaError('REQUEST_INVALID', 'unknown expectation', { status: 417 })
  }
  return undefined
}
