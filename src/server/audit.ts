import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ErrorCode } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { type Metrics, outcomeOf } from './metrics.ts'
import type { Peer } from './peers.ts'

/** What is learnt about a request on its way, for the audit line and the metrics. */
export interface RequestNotes {
  readonly peer: Peer | undefined
  account?: string
  provider?: string
  /** Which of its servers: the domain controller. */
  server?: string
  kvno?: number
  /** The true code; what the client was shown may be less. */
  code?: ErrorCode
  /** What went wrong, in words that hold no secret. */
  problem?: string
  stale?: number
  /** For how long the request was held, in ms. */
  held?: number
}

declare module 'fastify' {
  interface FastifyRequest {
    notes: RequestNotes
  }
  /** Members that only the generated description of the interface uses. */
  interface FastifySchema {
    hide?: boolean
    summary?: string
    description?: string
  }
}

export type Audit = (request: FastifyRequest, reply: FastifyReply) => void

/** One line and one count for each request that reached the framework. */
export function addAudit(app: FastifyInstance, audit: Audit): void {
  app.decorateRequest('notes')
  app.addHook('onResponse', (request, reply, done) => {
    audit(request, reply)
    done()
  })
}

export function makeAudit(metrics: Metrics, log: Log): Audit {
  return (request, reply) => {
    const { peer, account, provider, server, kvno, code, problem, stale, held } = request.notes
    const route = request.is404 ? 'none' : (request.routeOptions.url ?? 'none')
    const status = reply.statusCode
    metrics.request(route, status, code ?? 'none', (reply.elapsedTime - (held ?? 0)) / 1000)
    const certificate = peer?.client?.certificate
    log.info(
      {
        id: request.id,
        client: certificate?.label,
        serial: certificate?.serialNumber,
        address: request.raw.socket.remoteAddress,
        method: request.method,
        route,
        account,
        outcome: outcomeOf(status),
        status,
        code,
        problem,
        provider,
        server,
        kvno,
        stale,
        ...(held !== undefined && { heldMs: Math.round(held) }),
        ms: Math.round(reply.elapsedTime * 1000) / 1000,
      },
      'request',
    )
  }
}
