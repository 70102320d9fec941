import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify'
import { GmsaError } from '../../base/errors.ts'
import type { Broker } from '../../broker/broker.ts'
import { credentialSchema, grantOf, sendCredential } from './credential.ts'

/** The routes under /v1/accounts: what a client may read, by name and kind. */
export function addAccountRoutes(app: FastifyInstance, broker: Broker): void {
  app.get('/v1/accounts', { schema: listSchema }, (request, reply) => {
    reply.header('cache-control', 'no-store').send({ accounts: broker.list(grantOf(request)) })
  })
  app.get<{ Params: { account: string } }>(
    '/v1/accounts/:account/credential',
    { schema: accountSchema },
    (request, reply) => sendCredential(request, reply, broker, request.params.account),
  )
  for (const url of ['/v1/accounts', '/v1/accounts/:account/credential']) allowOnlyGet(app, url)
}

/** Other methods on a known path: 405 instead of 404, before any body is waited for. */
export function allowOnlyGet(app: FastifyInstance, url: string): void {
  const method = app.supportedMethods.filter((each) => each !== 'GET') as HTTPMethods[]
  const refuse = async (_request: FastifyRequest, reply: FastifyReply) => {
    reply.header('allow', 'GET')
    throw new GmsaError('METHOD_NOT_ALLOWED', 'only GET')
  }
  app.route({ method, url, schema: hidden, onRequest: refuse, handler: refuse })
}

/** Left out of the description of the interface. */
const hidden = { hide: true } as const

const listSchema = {
  summary: 'The configured accounts this client may read',
  response: {
    200: {
      type: 'object',
      required: ['accounts'],
      properties: {
        accounts: {
          type: 'array',
          items: {
            type: 'object',
            required: ['name', 'kinds'],
            properties: { name: { type: 'string' }, kinds: { type: 'array', items: { type: 'string' } } },
          },
        },
      },
    },
  },
} as const

const accountSchema = {
  summary: 'Impersonation credential of one account',
  params: {
    type: 'object',
    required: ['account'],
    properties: { account: { type: 'string', description: 'The account.' } },
  },
  response: { 200: credentialSchema },
} as const
