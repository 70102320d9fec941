import type { FastifyInstance, FastifyRequest } from 'fastify'
import { GmsaError } from '../../base/errors.ts'
import type { KeytabRequest } from '../../broker/account-keys.ts'
import type { KeysAnswer } from '../../broker/answers.ts'
import { enctypeName } from '../../kerberos/enctype.ts'
import { type AccountContext, answerConditionally, timestamp } from '../conditional.ts'
import { grantOf } from './credential.ts'

interface AccountRoute {
  Params: { account: string }
}

/** Adds the routes for what is derived of managed passwords, and the passwords themselves; gives their paths. */
export function addKeyRoutes(app: FastifyInstance, context: AccountContext): string[] {
  const { broker } = context
  app.get<AccountRoute>('/v1/accounts/:account/keys', { schema: keysSchema }, (request, reply) => {
    const { account } = request.params
    const read = () => broker.keys(grantOf(request), account)
    return answerConditionally(request, reply, context, read, (answer) =>
      reply.type('application/json; charset=utf-8').send(keysDocument(account, answer)),
    )
  })
  app.get<AccountRoute>('/v1/accounts/:account/keytab', { schema: keytabSchema }, (request, reply) => {
    const { account } = request.params
    const read = async () => broker.keytab(grantOf(request), account, keytabRequest(request))
    return answerConditionally(request, reply, context, read, ({ bytes }) =>
      reply.type('application/octet-stream').send(bytes),
    )
  })
  app.get<AccountRoute>('/v1/accounts/:account/managed-password', { schema: passwordSchema }, (request, reply) => {
    const { account } = request.params
    const read = () => broker.managedPassword(grantOf(request), account)
    return answerConditionally(request, reply, context, read, ({ blob, age }) =>
      // A copy: what is sent must not change when the original is wiped.
      reply.header('age', age).type('application/octet-stream').send(Buffer.from(blob.reveal())),
    )
  })
  return ['keys', 'keytab', 'managed-password'].map((kind) => `/v1/accounts/:account/${kind}`)
}

/** Throws REQUEST_INVALID; which principals an account has is for the broker to judge. */
function keytabRequest({ query }: FastifyRequest): KeytabRequest {
  const { for: use = 'acceptor', principal = [] } = query as Readonly<Record<string, string | string[] | undefined>>
  if (use !== 'acceptor' && use !== 'initiator') {
    throw new GmsaError('REQUEST_INVALID', 'query parameter for: expected acceptor or initiator')
  }
  return { use, principals: [principal].flat() }
}

function keysDocument(account: string, answer: KeysAnswer) {
  const { principal, keys, kvno, changesAt, previousValidUntil } = answer
  return {
    account,
    principal,
    realm: keys.realm,
    salt: keys.salt,
    kvno,
    refreshAt: changesAt === undefined ? null : timestamp(changesAt),
    previousValidUntil: previousValidUntil === undefined ? null : timestamp(previousValidUntil),
    keys: keys.keys.map(({ kvno, enctype, key, phase, predicted }) => ({
      kvno,
      enctype,
      name: enctypeName(enctype),
      key: Buffer.from(key.reveal()).toString('base64'),
      phase,
      ...(predicted && { predicted }),
    })),
  }
}

const params = {
  type: 'object',
  required: ['account'],
  properties: { account: { type: 'string', description: 'The account.' } },
} as const
const headers = {
  type: 'object',
  properties: {
    'if-none-match': { type: 'string', description: 'The ETag of an earlier answer: 304 where it is still current.' },
    prefer: { type: 'string', description: 'wait=N, N <= 300: hold a 304 until there is something new.' },
  },
} as const
const bytes = (description: string) =>
  ({ description, content: { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } } }) as const
const time = { type: ['string', 'null'] } as const

const keysSchema = {
  summary: 'Kerberos keys of a gMSA',
  params,
  headers,
  response: {
    200: {
      type: 'object',
      required: ['account', 'principal', 'realm', 'salt', 'kvno', 'refreshAt', 'previousValidUntil', 'keys'],
      properties: {
        account: { type: 'string' },
        principal: { type: 'string', description: 'sAMAccountName@REALM.' },
        realm: { type: 'string' },
        salt: { type: 'string' },
        kvno: { type: 'integer', description: 'Of the key in force.' },
        refreshAt: { ...time, description: 'When these keys are read again, or change by themselves.' },
        previousValidUntil: { ...time, description: 'Until when previous keys are kept.' },
        keys: {
          type: 'array',
          items: {
            type: 'object',
            required: ['kvno', 'enctype', 'name', 'key', 'phase'],
            properties: {
              kvno: { type: 'integer' },
              enctype: { type: 'integer' },
              name: { type: 'string' },
              key: { type: 'string', description: 'Base64.' },
              phase: { type: 'string', enum: ['current', 'previous', 'next'] },
              predicted: {
                type: 'boolean',
                description: 'The kvno was not read but expected: one more than that of the password before.',
              },
            },
          },
        },
      },
    },
  },
} as const

const keytabSchema = {
  summary: 'MIT keytab (0x0502) of a gMSA',
  params,
  headers,
  querystring: {
    type: 'object',
    properties: {
      for: { type: 'string', enum: ['acceptor', 'initiator'], default: 'acceptor' },
      principal: {
        type: 'array',
        items: { type: 'string' },
        description:
          "Only these of the account's principals; may repeat. Found whatever their case, and written as given here.",
      },
    },
  },
  response: { 200: bytes('The keytab.') },
} as const

const passwordSchema = {
  summary: 'Current MSDS-MANAGEDPASSWORD_BLOB of a gMSA',
  params,
  headers,
  response: { 200: bytes('The blob; the header age has the seconds since it was read.') },
} as const
