import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Broker } from '../../broker/broker.ts'

/** The three members in Rancher's order. A record that lacked one could not be serialised. */
export const credentialSchema = {
  type: 'object',
  description: 'The impersonation credential.',
  required: ['username', 'password', 'domainName'],
  additionalProperties: false,
  properties: {
    username: { type: 'string' },
    password: { type: 'string' },
    domainName: { type: 'string' },
  },
} as const

/** Reads the account's credential for this client and answers with it. Rejects with a GmsaError. */
export async function sendCredential(
  request: FastifyRequest,
  reply: FastifyReply,
  broker: Broker,
  account: string,
): Promise<FastifyReply> {
  const { notes } = request
  notes.account = account.slice(0, 253)
  const provider = broker.providerOf(account)
  if (provider) notes.provider = provider
  const { material, stale } = await broker.read(grantOf(request), account, 'credential')
  if (stale !== undefined) {
    notes.stale = stale
    reply.header('gmsa-stale', stale)
  }
  reply.header('cache-control', 'no-store').type('application/json; charset=utf-8')
  const { username, password, domainName } = material
  return reply.send({ username, password: password.revealText(), domainName })
}

/** What this client may do. The guard has let in nobody without it. */
export function grantOf(request: FastifyRequest) {
  const { peer } = request.notes
  if (!peer) throw new Error('request without a peer')
  return peer.grant
}
