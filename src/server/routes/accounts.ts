import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify'
import { GmsaError } from '../../base/errors.ts'
import { CREDENTIAL_SPEC_FORMATS, type CredentialSpecFormat } from '../../gmsa/credential-spec.ts'
import { type AccountContext, answerConditionally, timestamp } from '../conditional.ts'
import { formatCredentialSpec } from '../credential-spec-text.ts'
import { credentialSchema, grantOf, sendCredential } from './credential.ts'
import { addKeyRoutes } from './keys.ts'

/** The routes under /v1/accounts: what a client may read, by name and kind. */
export function addAccountRoutes(app: FastifyInstance, context: AccountContext): void {
  const { broker } = context
  app.get('/v1/accounts', { schema: listSchema }, (request, reply) => {
    const accounts = broker.list(grantOf(request)).map(({ refreshAt, ...known }) => {
      return { ...known, ...(refreshAt !== undefined && { refreshAt: timestamp(refreshAt) }) }
    })
    reply.header('cache-control', 'no-store').send({ accounts })
  })
  app.get<AccountRoute>('/v1/accounts/:account/credential', { schema: accountSchema }, (request, reply) => {
    const { account } = request.params
    const read = () => broker.read(grantOf(request), account, 'credential')
    return answerConditionally(request, reply, context, read, ({ material }) => sendCredential(reply, material))
  })
  app.get<AccountRoute>('/v1/accounts/:account/credential-spec', { schema: specSchema }, (request, reply) => {
    const { account } = request.params
    const read = async () => {
      const format = formatOf(request)
      const answer = await broker.credentialSpec(grantOf(request), account)
      return { ...answer, tag: `${answer.tag}-${format}`, format }
    }
    return answerConditionally(request, reply, context, read, ({ spec, format }) =>
      reply.type(SPEC_TYPES[format]).send(formatCredentialSpec(spec, format, account)),
    )
  })
  for (const kind of ['', '/:account/credential', '/:account/credential-spec']) allowOnlyGet(app, `/v1/accounts${kind}`)
  for (const url of addKeyRoutes(app, context)) allowOnlyGet(app, url)
}

const SPEC_TYPES: Readonly<Record<CredentialSpecFormat, string>> = {
  docker: 'application/json; charset=utf-8',
  kubernetes: 'application/yaml; charset=utf-8',
}

function formatOf({ query }: FastifyRequest): CredentialSpecFormat {
  const { format = 'docker' } = query as Readonly<Record<string, unknown>>
  const known = CREDENTIAL_SPEC_FORMATS.find((each) => each === format)
  if (known) return known
  throw new GmsaError('REQUEST_INVALID', 'query parameter format: expected docker or kubernetes')
}

interface AccountRoute {
  Params: { account: string }
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
            properties: {
              name: { type: 'string' },
              kinds: { type: 'array', items: { type: 'string' } },
              kvno: { type: 'integer', description: 'Of the key in force, where it is known already.' },
              refreshAt: { type: 'string', description: 'When the keys are due again, where that is known already.' },
            },
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

const specSchema = {
  summary: 'Credential spec of a gMSA, with what its directory says of the domain',
  params: accountSchema.params,
  querystring: {
    type: 'object',
    properties: {
      format: {
        type: 'string',
        enum: CREDENTIAL_SPEC_FORMATS,
        default: 'docker',
        description: 'docker: JSON; kubernetes: YAML.',
      },
    },
  },
  response: {
    200: {
      description: 'The document. It holds no secret.',
      content: {
        'application/json': { schema: { type: 'object', additionalProperties: true } },
        'application/yaml': { schema: { type: 'string' } },
      },
    },
  },
} as const
