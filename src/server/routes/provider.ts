import type { FastifyInstance, FastifyRequest } from 'fastify'
import { GmsaError, toGmsaError } from '../../base/errors.ts'
import type { Broker } from '../../broker/broker.ts'
import { credentialSchema, grantOf, sendCredential } from './credential.ts'

/** `GET /provider`: what the CCG plug-in asks for. Every answer but the credential itself has no body. */
export function addProviderRoute(app: FastifyInstance, broker: Broker): void {
  app.get('/provider', { schema }, async (request, reply) => {
    const name = objectHeader(request)
    if (!name) throw new GmsaError('REQUEST_INVALID', 'header object is missing or empty')
    const { notes } = request
    notes.account = name.slice(0, 253)
    const provider = broker.providerOf(name)
    if (provider) notes.provider = provider
    try {
      const { material, stale } = await broker.read(grantOf(request), name, 'credential')
      if (stale !== undefined) {
        notes.stale = stale
        reply.header('gmsa-stale', stale)
      }
      return sendCredential(reply, material)
    } catch (thrown) {
      throw asAbsent(toGmsaError(thrown))
    }
  })
}

/** A record that is no credential is absent for the plug-in: 404, with the true cause in `gmsa-error`. */
function asAbsent(error: GmsaError): GmsaError {
  if (error.code !== 'MATERIAL_MALFORMED' && error.code !== 'KIND_NOT_OFFERED') return error
  return new GmsaError(error.code, error.message, { cause: error.cause, status: 404 })
}

/** The first `object` header: node joins several into one, and no name holds a comma. */
function objectHeader({ raw }: FastifyRequest): string | undefined {
  const { object } = raw.headers
  if (typeof object !== 'string' || !object.includes(',')) return object as string | undefined
  const at = raw.rawHeaders.findIndex((each, index) => index % 2 === 0 && each.toLowerCase() === 'object')
  return raw.rawHeaders[at + 1]
}

const schema = {
  summary: 'Impersonation credential for the CCG plug-in',
  description: 'Every other answer has no body; the cause stands in the header gmsa-error.',
  headers: {
    type: 'object',
    required: ['object'],
    properties: { object: { type: 'string', description: 'The account.' } },
  },
  response: { 200: credentialSchema },
} as const
