import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { TLSSocket } from 'node:tls'
import { makeCa, type TestCa } from './pki.ts'

/** A request as the stand-in saw it; `body` is text, empty where there was none. */
export interface SeenRequest {
  readonly method: string
  /** With the query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
  /** Upper-case hex serial of the client's certificate, where it showed one of the CA that it was asked for. */
  readonly clientSerial?: string
}

export interface Reply {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  /** Sent as it is where it is text, else as JSON. Absent: no body. */
  readonly body?: unknown
}

/** How a server that can be reached spoils its answers: all of them, or those that `fail` is told of. */
export type Fault = 'hang' | 'truncated' | 'not-json' | 'oversized' | 'reset'

/** What a certificate shows. `other-ca`: right name, from a CA nobody gave us. */
export type Shown = 'own' | 'wrong-name' | 'other-ca'

export interface StandInOptions {
  /** Plain http where false, for protocols that are plain here. */
  readonly tls?: boolean
  /** Clients are asked for a certificate of this CA; none is demanded. */
  readonly clientCa?: TestCa
}

/** A server that answers as `handle` says, on a loopback port that stays the same, and misbehaves on request. */
export interface StandIn extends AsyncDisposable {
  /** `https://localhost:PORT`. */
  readonly address: string
  readonly port: number
  /** PEM of the CA of its present certificate. */
  readonly ca: string
  /** All requests so far, the oldest first. */
  readonly seen: readonly SeenRequest[]
  /** From now on: a fault, or a reply of its own, for requests that `when` holds for (absent: all); absent: sound. */
  fail(how?: Fault | Reply, when?: (request: SeenRequest) => boolean): void
  /** Shows another certificate to new connections, and ends the old ones. */
  show(what: Shown): Promise<void>
  /** A new CA and a certificate of it; returns its PEM. Old connections are ended. */
  rotateCa(): Promise<string>
  /** Refuses connections, until `start`. */
  stop(): Promise<void>
  start(): Promise<void>
  /** Ends whatever was set up of these, the new CA apart. */
  restore(): Promise<void>
}

const OVERSIZE = 3 * 1024 * 1024

export async function startStandIn(
  handle: (request: SeenRequest) => Reply | Promise<Reply>,
  { tls = true, clientCa }: StandInOptions = {},
): Promise<StandIn> {
  let ca = await makeCa()
  let fault: { how: Fault | Reply; when: (request: SeenRequest) => boolean } | undefined
  let port = 0
  const seen: SeenRequest[] = []
  const credentials = async (what: Shown = 'own') => {
    const issuer = what === 'other-ca' ? await makeCa() : ca
    const leaf = await issuer.issueServer(what === 'wrong-name' ? { dns: ['other.test'], ip: [] } : {})
    return { cert: leaf.certificate, key: leaf.key }
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const asked = await readRequest(request)
    seen.push(asked)
    const wrong = fault?.when(asked) ? fault.how : undefined
    if (typeof wrong === 'string') return spoil(wrong, response)
    send(response, wrong ?? (await handle(asked)))
  }

  const listener = (request: IncomingMessage, response: ServerResponse) => {
    serve(request, response).catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined))
  }
  const asked = clientCa && { ca: clientCa.certificate, requestCert: true, rejectUnauthorized: false }
  const server = tls ? createTlsServer({ ...(await credentials()), ...asked }, listener) : createServer(listener)

  async function start(): Promise<void> {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    port = (server.address() as AddressInfo).port
  }
  async function stop(): Promise<void> {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }
  async function show(what: Shown): Promise<void> {
    if ('setSecureContext' in server) (server as Server).setSecureContext({ ...(await credentials(what)), ...asked })
    server.closeAllConnections()
  }

  await start()
  return {
    get address() {
      return `${tls ? 'https://localhost' : 'http://127.0.0.1'}:${port}`
    },
    get port() {
      return port
    },
    get ca() {
      return ca.certificate
    },
    seen,
    fail(how, when = () => true) {
      fault = how === undefined ? undefined : { how, when }
    },
    show,
    async rotateCa() {
      ca = await makeCa({ name: 'Next CA' })
      await show('own')
      return ca.certificate
    },
    stop,
    start,
    async restore() {
      fault = undefined
      await stop()
      await show('own')
      await start()
    },
    [Symbol.asyncDispose]: stop,
  }
}

async function readRequest(request: IncomingMessage): Promise<SeenRequest> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  const { socket } = request
  const clientSerial =
    socket instanceof TLSSocket && socket.authorized ? socket.getPeerX509Certificate()?.serialNumber : undefined
  return {
    method: request.method ?? '',
    path: request.url ?? '',
    headers: request.headers,
    body: Buffer.concat(chunks).toString('utf8'),
    ...(clientSerial !== undefined && { clientSerial }),
  }
}

function send(response: ServerResponse, { status, headers = {}, body }: Reply): void {
  const text = typeof body === 'string' ? body : body === undefined ? '' : JSON.stringify(body)
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(text)
}

function spoil(fault: Fault, response: ServerResponse): void {
  if (fault === 'reset') response.destroy()
  if (fault === 'not-json') send(response, { status: 200, body: '<html>sign in</html>' })
  if (fault === 'oversized') send(response, { status: 200, body: { padding: 'x'.repeat(OVERSIZE) } })
  if (fault !== 'truncated') return
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' })
  response.write('{"half":')
  setTimeout(() => response.destroy(), 20)
}
