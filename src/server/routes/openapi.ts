import type { FastifyInstance } from 'fastify'
import { allowOnlyGet } from './accounts.ts'

/** `GET /openapi.json`: the description generated from the routes' own schemas, read when first asked for. */
export function addOpenApiRoute(app: FastifyInstance): void {
  app.get('/openapi.json', { schema }, async (_request, reply) => {
    const { default: document } = await import('../openapi.json', { with: { type: 'json' } })
    return reply.type('application/json; charset=utf-8').send(JSON.stringify(document))
  })
  allowOnlyGet(app, '/openapi.json')
}

const schema = { summary: 'This description' } as const
