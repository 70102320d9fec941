import { randomBytes } from 'node:crypto'
import rateLimit from '@fastify/rate-limit'
import underPressure from '@fastify/under-pressure'
import fastify, { type FastifyInstance } from 'fastify'
import { GmsaError } from '../base/errors.ts'
import { faultBehind } from '../base/fault.ts'
import type { Log } from '../base/log.ts'
import type { Broker } from '../broker/broker.ts'
import { answerError, toRequestError } from './answer-error.ts'
import { type Audit, addAudit, makeAudit } from './audit.ts'
import type { AccountContext } from './conditional.ts'
import { addGuard, type Drain, guard } from './guard.ts'
import type { Metrics } from './metrics.ts'
import type { Peers } from './peers.ts'
import { addAccountRoutes } from './routes/accounts.ts'
import { addOpenApiRoute } from './routes/openapi.ts'
import { addProviderRoute } from './routes/provider.ts'
import type { Waits } from './waits.ts'

export interface AppOptions {
  readonly broker: Broker
  readonly peers: Peers
  readonly metrics: Metrics
  readonly log: Log
  readonly drain: Readonly<Drain>
  readonly waits: Waits
  /** For each client certificate. */
  readonly requestsPerSecond: number
  /** Load is shed while the event loop is late by more than this, in ms. */
  readonly maxEventLoopDelay?: number
}

const MAX_EVENT_LOOP_DELAY = 1_000
/** The longest account name fits; longer parameters are no name. */
const MAX_PARAMETER = 253

/** The data listener's application, apart from any socket: its `routing` is handed to the listener. */
export async function buildApp(options: AppOptions): Promise<FastifyInstance> {
  const { broker, peers, metrics, log, drain, waits } = options
  const audit = makeAudit(metrics, log)
  const app = bareApp(peers, drain, audit)
  // The schemas describe; names and headers are judged by the broker, whose errors have the right shape.
  app.setValidatorCompiler(() => () => true)
  addAudit(app, audit)
  addGuard(app, peers, drain)
  await app.register(underPressure, {
    maxEventLoopDelay: options.maxEventLoopDelay ?? MAX_EVENT_LOOP_DELAY,
    exposeStatusRoute: false,
  })
  await addRateLimit(app, options.requestsPerSecond)
  app.setErrorHandler((thrown, request, reply) => {
    const error = toRequestError(thrown)
    if (error.code === 'INTERNAL') log.error({ id: request.id, ...faultBehind(error) }, 'unexpected error')
    return answerError(request, reply, error)
  })
  addRoutes(app, { broker, peers, waits })
  await app.ready()
  return app
}

/** Every route, for the service and for the description of its interface. */
export function addRoutes(app: FastifyInstance, context: AccountContext): void {
  addProviderRoute(app, context.broker)
  addAccountRoutes(app, context)
  addOpenApiRoute(app)
}

function bareApp(peers: Peers, drain: Readonly<Drain>, audit: Audit): FastifyInstance {
  const boot = randomBytes(6).toString('base64url')
  let count = 0
  return fastify({
    logger: false,
    // Always of one length: the answers for denied and absent accounts must not differ in theirs.
    genReqId: () => `${boot}-${String(++count).padStart(12, '0')}`,
    requestIdHeader: false,
    exposeHeadRoutes: false,
    return503OnClosing: false,
    routerOptions: { maxParamLength: MAX_PARAMETER },
    bodyLimit: 1024,
    // Paths that can't be decoded, refused before routing. No hook runs for them.
    frameworkErrors(error, request, reply) {
      reply.raw.once('finish', () => audit(request, reply))
      if (guard(request, reply, peers, drain)) answerError(request, reply, toRequestError(error), { bare: true })
    },
  })
}

/** A safety net against a client gone wild: counted for each certificate, over one second. */
async function addRateLimit(app: FastifyInstance, max: number): Promise<void> {
  await app.register(rateLimit, {
    global: false,
    max,
    timeWindow: 1_000,
    keyGenerator: (request) => request.notes.peer?.client?.certificate.fingerprint256 ?? 'anonymous',
  })
  const count = app.createRateLimit()
  app.addHook('onRequest', async (request) => {
    const state = await count(request)
    if (state.isAllowed || !state.isExceeded) return
    throw new GmsaError('RATE_LIMITED', 'more requests than limits.requestsPerSecond', { retryAfter: 1 })
  })
}
