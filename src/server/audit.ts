import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Log } from '../base/log.ts'
import { type Metrics, outcomeOf } from './metrics.ts'

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
    const { peer, account, provider, kvno, code, problem, stale } = request.notes
    const route = request.is404 ? 'none' : (request.routeOptions.url ?? 'none')
    const status = reply.statusCode
    metrics.request(route, status, code ?? 'none', reply.elapsedTime / 1000)
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
        kvno,
        stale,
        ms: Math.round(reply.elapsedTime * 1000) / 1000,
      },
      'request',
    )
  }
}
