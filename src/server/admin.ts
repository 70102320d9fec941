import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import fastify, { type FastifyInstance, type FastifyReply } from 'fastify'
import { GmsaError } from '../base/errors.ts'
import { repeatsHost } from './guard.ts'
import type { Metrics } from './metrics.ts'
import type { ReadyCheck } from './ready-checks.ts'
import { isLoopback, isOwnHost, renderStatus, type Status } from './status-page.ts'

export interface AdminOptions {
  readonly host: string
  readonly port: number
  /** Where `port` is taken, another one will do. */
  readonly orAnyPort?: boolean | undefined
  readonly checks: () => readonly ReadyCheck[]
  readonly metrics: Metrics
  /** Who may see the status page: this machine, everybody (true), nobody (false). */
  readonly statusPage: 'loopback' | boolean
  readonly status: () => Omit<Status, 'checks'>
}

export interface Admin extends AsyncDisposable {
  readonly host: string
  readonly port: number
}

/** Opens the plain listener for probes and metrics. Nothing it serves is a secret. Rejects with CONFIG_INVALID. */
export async function openAdmin(options: AdminOptions): Promise<Admin> {
  const app = buildAdmin(options)
  await app.ready()
  const listen = async (port: number) => {
    app.server.listen({ host: options.host, port, exclusive: true })
    await once(app.server, 'listening')
  }
  try {
    await listen(options.port).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE' && options.orAnyPort) return listen(0)
      throw error
    })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new GmsaError('CONFIG_INVALID', `admin: ${options.host} port ${options.port}: ${code}`, {
      cause: error,
      ...(code === 'EADDRINUSE' && { hint: 'another process listens there: choose another admin.port' }),
    })
  }
  return {
    host: options.host,
    port: (app.server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      app.server.closeAllConnections()
      app.server.close()
      await app.close()
    },
  }
}

function buildAdmin(options: AdminOptions): FastifyInstance {
  const { checks, metrics } = options
  const app: FastifyInstance = fastify({
    logger: false,
    exposeHeadRoutes: false,
    return503OnClosing: false,
    frameworkErrors: (_error, _request, reply) => void answerBare(reply, 400),
  })
  app.addHook('onRequest', (request, reply, next) => {
    if (repeatsHost(request.raw)) answerBare(reply, 400)
    else next()
  })
  app.get('/livez', (_request, reply) => reply.type('text/plain').send('ok\n'))
  for (const url of ['/readyz', '/healthz']) {
    app.get<{ Querystring: Record<string, string | string[]> }>(url, (request, reply) => {
      const excluded = [request.query['exclude'] ?? []].flat()
      const { ready, text } = judge(checks(), new Set(excluded), request.query['verbose'] !== undefined)
      return reply
        .code(ready ? 200 : 503)
        .type('text/plain')
        .send(text)
    })
  }
  app.get('/metrics', async (_request, reply) =>
    reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()),
  )
  addStatusPage(app, options)
  app.setNotFoundHandler((_request, reply) => answerBare(reply, 404))
  app.setErrorHandler((_error, _request, reply) => answerBare(reply, 500))
  return app
}

/** For people with a browser on this machine. Without scripts; refused under names that are not this listener's own. */
function addStatusPage(app: FastifyInstance, { host, statusPage, status, checks }: AdminOptions): void {
  if (statusPage === false) return
  app.get('/', (request, reply) => {
    const near = statusPage === true || isLoopback(request.raw.socket.remoteAddress)
    if (!near || !isOwnHost(request.headers.host, host)) return answerBare(reply, 404)
    reply.header('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
    reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff')
    return reply.type('text/html; charset=utf-8').send(renderStatus({ ...status(), checks: checks() }))
  })
}

function answerBare(reply: FastifyReply, status: number): FastifyReply {
  return reply.code(status).header('content-length', 0).send()
}

/** The text of /readyz, in the form that Kubernetes gives its own. */
function judge(checks: readonly ReadyCheck[], excluded: ReadonlySet<string>, verbose: boolean) {
  const lines: string[] = []
  let ready = true
  for (const check of checks) {
    if (excluded.has(check.name)) {
      lines.push(`[+]${check.name} excluded: ok`)
      continue
    }
    const { name, problem, required } = check
    lines.push(problem === undefined ? `[+]${name} ok` : `[-]${name} failed: ${problem}`)
    if (problem !== undefined && required) ready = false
  }
  const verdict = `readyz check ${ready ? 'passed' : 'failed'}`
  return { ready, text: verbose || !ready ? `${lines.join('\n')}\n${verdict}\n` : 'ok\n' }
}
