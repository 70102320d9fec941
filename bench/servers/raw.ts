/** The floor: node:https with no framework and no authorisation beyond the handshake's. */
import { createServer } from 'node:https'
import { CREDENTIAL } from '../credential.ts'
import { isAsked, listenOptions, serverOptions } from './options.ts'

createServer(serverOptions, (request, response) => {
  if (!isAsked(request.url, request.headers['object'])) {
    response.writeHead(404, { 'content-length': 0 }).end()
    return
  }
  const body = JSON.stringify(CREDENTIAL)
  response.writeHead(200, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
  })
  response.end(body)
}).listen(listenOptions)
