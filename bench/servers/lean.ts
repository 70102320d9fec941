/** What a framework costs: Fastify, a response schema, and the client certificate read once for each socket. No log. */
import type { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import fastify, { type FastifyReply, type FastifyRequest } from 'fastify'
import { CREDENTIAL } from '../credential.ts'
import { isAsked, listenOptions, serverOptions } from './options.ts'

const certificates = new WeakMap<TLSSocket, X509Certificate>()

function isAuthorised(socket: TLSSocket): boolean {
  if (!certificates.has(socket)) {
    const certificate = socket.authorized ? socket.getPeerX509Certificate() : undefined
    if (!certificate) return false
    certificates.set(socket, certificate)
  }
  return true
}

const text = { type: 'string' }
const schema = {
  response: {
    200: {
      type: 'object',
      required: ['username', 'password', 'domainName'],
      properties: { username: text, password: text, domainName: text },
    },
  },
}

function answer(request: FastifyRequest, reply: FastifyReply): void {
  if (!isAuthorised(request.raw.socket as TLSSocket)) reply.code(403).send()
  else if (!isAsked(request.url, request.headers['object'])) reply.code(404).send()
  else reply.header('cache-control', 'no-store').send(CREDENTIAL)
}

const app = fastify({ https: serverOptions, logger: false })
app.get('/provider', { schema }, answer)
await app.listen(listenOptions)
