import { once } from 'node:events'
import {
  createServer as createHttpServer,
  type Server as HttpServer,
  type RequestListener,
  STATUS_CODES,
} from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { SecureContextOptions, TLSSocket } from 'node:tls'
import type { Clock } from '../base/clock.ts'
import { ERRORS, type ErrorCode, GmsaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Grant } from '../broker/policy.ts'
import type { Peer, Peers } from './peers.ts'
import { rejectionReason } from './rejection.ts'

export interface ListenerEvents {
  /** A connection that never became a verified client. */
  rejected(reason: string, socket: Socket): void
  /** A request that the framework never saw, answered here. */
  refusedBelow(code: ErrorCode, status: number, socket: Socket): void
}

export interface ListenerOptions {
  readonly hosts: readonly string[]
  readonly port: number
  readonly handler: RequestListener
  readonly peers: Peers
  /** Absent: plain http for a client that is granted this; only with mTLS switched off by hand. */
  readonly secure: (() => SecureContextOptions) | { readonly anonymous: Grant }
  /** How long a request may take to arrive, in ms. */
  readonly requestTimeout: number
  readonly handshakeTimeout: number
  readonly clock: Clock
  readonly log: Log
  readonly events: ListenerEvents
}

export interface Listener {
  readonly port: number
  /** Addresses that are listened on. */
  readonly hosts: readonly string[]
  /** Uses a new complete set of TLS options from the next handshake on. Old session tickets are void then. */
  setSecureContext(options: SecureContextOptions): void
  /** Takes no more connections, ends the idle ones, waits for the others at most `grace` ms, then cuts them off. */
  close(grace: number): Promise<void>
}

const MAX_HEADER_BYTES = 16 * 1024
const KEEP_ALIVE = 65_000
/** How long the rest of a refused request is read and thrown away, so that a reset does not overtake the answer. */
const LINGER = 1_000
const PORT_TRIES = 5

/** Listens on every host, all on one port. Rejects with CONFIG_INVALID when an address can't be had. */
export async function openListener(options: ListenerOptions): Promise<Listener> {
  for (let tries = PORT_TRIES; ; tries--) {
    const servers: HttpServer[] = []
    try {
      return await listenOnAll(options, servers)
    } catch (error) {
      for (const server of servers) server.close()
      // The system chose a port for the first host that is taken on the second: let it choose another.
      const another = options.port === 0 && tries > 1 && (error as NodeJS.ErrnoException).code === 'EADDRINUSE'
      if (another) continue
      const { code, address, port } = error as NodeJS.ErrnoException & { address?: string; port?: number }
      throw new GmsaError('CONFIG_INVALID', `listen: ${address ?? ''} port ${port ?? options.port}: ${code ?? error}`, {
        cause: error,
        ...(code === 'EADDRINUSE' && { hint: 'another process listens there: choose another listen.port' }),
      })
    }
  }
}

async function listenOnAll(options: ListenerOptions, servers: HttpServer[]): Promise<Listener> {
  let { port } = options
  const hosts: string[] = []
  for (const host of options.hosts) {
    const server = makeServer(options)
    try {
      server.listen({ host, port, exclusive: true })
      await once(server, 'listening')
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (host !== '::1' || (code !== 'EADDRNOTAVAIL' && code !== 'EAFNOSUPPORT')) throw error
      options.log.warn({ host, code }, 'this machine has no IPv6 loopback address: not listening there')
      continue
    }
    servers.push(server)
    hosts.push(host)
    port = (server.address() as AddressInfo).port
  }
  if (servers.length === 0) throw new GmsaError('CONFIG_INVALID', 'listen.hosts: none of the addresses exists here')
  return {
    port,
    hosts,
    setSecureContext(secure) {
      for (const server of servers) if ('setSecureContext' in server) (server as SecureServer).setSecureContext(secure)
    },
    async close(grace) {
      const cut = options.clock.after(grace, () => servers.forEach((server) => void server.closeAllConnections()))
      await Promise.all(servers.map(closeServer))
      cut[Symbol.dispose]()
    },
  }
}

type SecureServer = HttpServer & { setSecureContext(options: SecureContextOptions): void }

function closeServer(server: HttpServer): Promise<unknown> {
  const closed = once(server, 'close')
  server.close()
  server.closeIdleConnections()
  return closed
}

function makeServer(options: ListenerOptions): HttpServer {
  const { peers, events, secure, requestTimeout } = options
  const http = {
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: requestTimeout,
    requestTimeout,
    keepAliveTimeout: KEEP_ALIVE,
    connectionsCheckingInterval: Math.min(1_000, Math.ceil(requestTimeout / 2)),
    // Node's own answer to a missing Host is chunked: the framework's guard answers instead.
    requireHostHeader: false,
    noDelay: true,
  }
  const handler: RequestListener = (request, response) => {
    const peer = peers.of(request.socket)
    if (peer) {
      peer.exchange = { request, response }
      options.handler(request, response)
    } else request.socket.destroy()
  }
  const server = typeof secure === 'function' ? makeTlsServer(options, http, secure()) : createHttpServer(http)
  if (typeof secure !== 'function') server.on('connection', (socket) => peers.admitAnonymous(socket, secure.anonymous))
  server.on('request', handler)
  // Unknown expectations and CONNECT would be answered by node itself, the first in chunks, the second not at all.
  server.on('checkExpectation', handler)
  server.on('connect', ({ socket }) => refuse(socket, peers.of(socket), 'ROUTE_NOT_FOUND', 404, events))
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => onClientError(error, socket as Socket, options))
  return server
}

function makeTlsServer(options: ListenerOptions, http: object, secure: SecureContextOptions): HttpServer {
  const { peers, events, handshakeTimeout } = options
  const server = createHttpsServer({
    ...http,
    ...secure,
    handshakeTimeout,
    requestCert: true,
    rejectUnauthorized: true,
    ALPNProtocols: ['http/1.1'],
  })
  server.prependListener('secureConnection', (socket: TLSSocket) => {
    const refusal = peers.admit(socket)
    if (!refusal) return
    events.rejected(refusal, socket)
    socket.destroy()
  })
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) =>
    events.rejected(rejectionReason(error, socket), socket),
  )
  return server
}

/** What node's parser or timers refuse. Failed handshakes come here as well and are only cut off. */
function onClientError(error: NodeJS.ErrnoException, socket: Socket, options: ListenerOptions): void {
  const peer = options.peers.of(socket)
  if (!peer || error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  if (peer.ending) return
  const { exchange } = peer
  if (exchange && !exchange.request.complete && exchange.response.headersSent) {
    // The fault lies in the body of a request that has its answer already.
    linger(socket, peer)
  } else if (exchange?.request.complete && !exchange.response.writableEnded) {
    // A good request still waits for its answer: it gets it, then the connection ends.
    peer.ending = true
    exchange.response.once('finish', () => linger(socket, peer))
  } else {
    const [code, status] = classify(error)
    refuse(socket, peer, code, status, options.events)
  }
}

function classify(error: NodeJS.ErrnoException): [ErrorCode, number] {
  if (error.code === 'HPE_HEADER_OVERFLOW') return ['REQUEST_TOO_LARGE', 431]
  if (error.code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') return ['REQUEST_TOO_LARGE', 413]
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') return ['REQUEST_TIMEOUT', 408]
  return ['REQUEST_INVALID', ERRORS.REQUEST_INVALID.status]
}

/** Answers without body and closes: the CCG plug-in takes any JSON object, whatever the status, for a credential. */
function refuse(socket: Socket, peer: Peer | undefined, code: ErrorCode, status: number, events: ListenerEvents): void {
  events.refusedBelow(code, status, socket)
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    `Date: ${new Date().toUTCString()}`,
    `gmsa-error: ${code}`,
    'Content-Length: 0',
    'Connection: close',
  ]
  socket.write(`${head.join('\r\n')}\r\n\r\n`)
  linger(socket, peer)
}

/** Ends our side and reads what still comes for a moment: closing at once would reset, and lose, the answer. */
function linger(socket: Socket, peer: Peer | undefined): void {
  if (peer) peer.ending = true
  socket.end()
  socket.resume()
  const timer = setTimeout(() => socket.destroy(), LINGER).unref()
  socket.once('close', () => clearTimeout(timer))
  socket.once('end', () => socket.destroySoon())
}
