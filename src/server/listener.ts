import { once } from 'node:events'
import type { Server as HttpServer, RequestListener, ServerResponse } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { SecureContextOptions, TLSSocket } from 'node:tls'
import type { Clock } from '../base/clock.ts'
import { ERRORS, type ErrorCode, GmsaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { createServer as createHttpServer, STATUS_CODES } from '../base/node-http.ts'
import type { Grant } from '../broker/policy.ts'
import type { Peer, Peers } from './peers.ts'
import { rejectionReason } from './rejection.ts'
import type { Trust } from './trust.ts'

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
  /** Takes no more connections, ends the idle ones, waits for answers under way at most `grace` ms, then cuts all off. */
  close(grace: number): Promise<void>
}

const MAX_HEADER_BYTES = 16 * 1024
const KEEP_ALIVE = 65_000
/** How long the rest of a refused request is read and thrown away, so that a reset does not overtake the answer. */
const LINGER = 1_000
/** How long, once the listener is closed, a connection may stay on which no request is being answered. */
const LAST_CALL = 500
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
  const connections: Connections = new Map()
  const hosts: string[] = []
  for (const host of options.hosts) {
    const server = makeServer(options, connections)
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
      const { clock, peers } = options
      const underWay = ({ http }: Connection) => http && answerUnderWay(peers.of(http))
      const cut = (all: boolean) => {
        for (const connection of connections.values()) if (all || !underWay(connection)) connection.raw.destroy()
      }
      using _idle = clock.after(Math.min(grace, LAST_CALL), () => cut(false))
      using _all = clock.after(grace, () => cut(true))
      for (const connection of connections.values()) sayLast(underWay(connection))
      await Promise.all(servers.map(closeServer))
    },
  }
}

/** Both ends of the TLS layer: below it from the first moment on, above it once the handshake is done. */
interface Connection {
  readonly raw: Socket
  /** That of the moment the connection was accepted, as are the TLS options that its handshake goes by. */
  readonly trust: Trust
  http?: Socket
}

/** By remote address and port, which both sockets have. */
type Connections = Map<string, Connection>

function keyOf({ remoteAddress, remotePort, localAddress }: Socket): string {
  return [remoteAddress, remotePort, localAddress].join()
}

/** Node's own list knows a connection only from the end of its handshake on, and takes one without requests for busy. */
function keepTrack(server: HttpServer, connections: Connections, { peers, secure }: ListenerOptions): void {
  server.on('connection', (raw: Socket) => {
    const key = keyOf(raw)
    const connection: Connection = { raw, trust: peers.trust() }
    connections.set(key, connection)
    raw.once('close', () => connections.delete(key))
    if (typeof secure === 'function') return
    connection.http = raw
    peers.admitAnonymous(raw, secure.anonymous)
  })
}

/** The response that is still to be sent, or on its way. */
function answerUnderWay(peer: Peer | undefined): ServerResponse | undefined {
  const response = peer?.exchange?.response
  return response?.writableFinished ? undefined : response
}

/** No request after this one: the connection would keep the server from closing. */
function sayLast(response: ServerResponse | undefined): void {
  if (response && !response.headersSent) response.setHeader('connection', 'close')
}

type SecureServer = HttpServer & { setSecureContext(options: SecureContextOptions): void }

function closeServer(server: HttpServer): Promise<unknown> {
  const closed = once(server, 'close')
  server.close()
  server.closeIdleConnections()
  return closed
}

function makeServer(options: ListenerOptions, connections: Connections): HttpServer {
  const { peers, secure, requestTimeout } = options
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
  const server =
    typeof secure === 'function' ? makeTlsServer(options, http, secure(), connections) : createHttpServer(http)
  keepTrack(server, connections, options)
  server.on('request', handler)
  // Unknown expectations and CONNECT would be answered by node itself, the first in chunks, the second not at all.
  server.on('checkExpectation', handler)
  server.on('connect', ({ socket }) => onConnect(socket, options))
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => onClientError(error, socket as Socket, options))
  return server
}

function makeTlsServer(
  options: ListenerOptions,
  http: object,
  secure: SecureContextOptions,
  connections: Connections,
): HttpServer {
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
    const connection = connections.get(keyOf(socket))
    const refusal = connection ? peers.admit(socket, connection.trust) : 'untrusted'
    if (connection) connection.http = socket
    if (!refusal) return
    events.rejected(refusal, socket)
    socket.destroy()
  })
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) =>
    events.rejected(rejectionReason(error, socket), socket),
  )
  return server
}

/** Node has taken its own listeners off the socket by now. */
function onConnect(socket: Socket, { peers, events }: ListenerOptions): void {
  socket.on('error', () => socket.destroy())
  const peer = peers.of(socket)
  if (!peer) socket.destroy()
  else if (peers.judge(peer)) refuseInTurn(socket, peer, ['CERTIFICATE_REFUSED', 403], events)
  else refuseInTurn(socket, peer, ['ROUTE_NOT_FOUND', 404], events)
}

/** What node's parser or timers refuse. Failed handshakes come here as well and are only cut off. */
function onClientError(error: NodeJS.ErrnoException, socket: Socket, { peers, events }: ListenerOptions): void {
  const peer = peers.of(socket)
  if (!peer || error.code === 'ECONNRESET' || !socket.writable) socket.destroy()
  else refuseInTurn(socket, peer, classify(error), events)
}

type Fault = readonly [code: ErrorCode, status: number]

/**
 * Refuses once the requests before have their answers, which a client takes in the order it asked; then the
 * connection ends. A fault in the body of a request that has its answer gets no second one.
 */
function refuseInTurn(socket: Socket, peer: Peer, fault: Fault, events: ListenerEvents): void {
  if (peer.ending) return
  peer.ending = true
  const { exchange } = peer
  const end = () => {
    if ((exchange && !exchange.request.complete) || !socket.writable) linger(socket)
    else refuse(socket, fault, events)
  }
  const response = answerUnderWay(peer)
  if (response) response.once('finish', end)
  else end()
}

function classify(error: NodeJS.ErrnoException): Fault {
  if (error.code === 'HPE_HEADER_OVERFLOW') return ['REQUEST_TOO_LARGE', 431]
  if (error.code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') return ['REQUEST_TOO_LARGE', 413]
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') return ['REQUEST_TIMEOUT', 408]
  return ['REQUEST_INVALID', ERRORS.REQUEST_INVALID.status]
}

/** Answers without body and closes: the CCG plug-in takes any JSON object, whatever the status, for a credential. */
function refuse(socket: Socket, [code, status]: Fault, events: ListenerEvents): void {
  events.refusedBelow(code, status, socket)
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    `Date: ${new Date().toUTCString()}`,
    `gmsa-error: ${code}`,
    'Content-Length: 0',
    'Connection: close',
  ]
  socket.write(`${head.join('\r\n')}\r\n\r\n`)
  linger(socket)
}

/** Ends our side and reads what still comes for a moment: closing at once would reset, and lose, the answer. */
function linger(socket: Socket): void {
  socket.end()
  socket.resume()
  const timer = setTimeout(() => socket.destroy(), LINGER).unref()
  socket.once('close', () => clearTimeout(timer))
  socket.once('end', () => socket.destroySoon())
}
