import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ImpersonationCredential } from '../../gmsa/material.ts'

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

/** Answers with the credential. */
export function sendCredential(reply: FastifyReply, material: ImpersonationCredential): FastifyReply {
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
