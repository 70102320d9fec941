import { hash, X509Certificate } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Clock } from '../base/clock.ts'
import type { Grant, Policy } from '../broker/policy.ts'
import { type ClientCertificate, readClientCertificate } from './client-certificate.ts'
import { chainRefusal, dateRefusal, type Refusal, type Trust } from './trust.ts'

/** A client certificate and what follows from it; the same object for all sockets of one certificate. */
interface Client {
  readonly certificate: ClientCertificate
  readonly grant: Grant
  /** What was last found about its chain, and under which trust. */
  verdict: { readonly trust: Trust; readonly refusal: Refusal | undefined } | undefined
}

/** The other end of one socket. Absent `client`: plain http, only where mTLS was switched off by hand. */
export interface Peer {
  readonly client: Client | undefined
  readonly grant: Grant
  /** The trust under which TLS verified it. */
  readonly verifiedUnder: Trust
  /** The trust under which this socket was last found good. */
  judgedUnder: Trust | undefined
  /** The last request on this socket and its response, for errors that node meets below the framework. */
  exchange: { readonly request: IncomingMessage; readonly response: ServerResponse } | undefined
  /** Set once the connection is being ended because of such an error. */
  ending: boolean
  /** Whether a request came over this socket before. */
  served: boolean
}

export interface PeersOptions {
  readonly trust: () => Trust
  readonly policy: Policy
  readonly clock: Clock
}

export interface Peers {
  /** The trust of this moment: under it TLS verifies a connection that is accepted now. */
  trust(): Trust
  /** Judges a socket whose handshake is done and was begun under this trust. A refusal means: destroy it. */
  admit(socket: TLSSocket, verifiedUnder: Trust): Refusal | undefined
  /** Takes a socket without TLS in; only with mTLS switched off. */
  admitAnonymous(socket: Socket, grant: Grant): void
  of(socket: Socket): Peer | undefined
  /** Judges a socket again, for the request at hand. A refusal means: 403 without body, and close. */
  judge(peer: Peer): Refusal | undefined
}

/** Clients remembered, the least recently seen forgotten first: what is known of one can be found out again. */
const MAX_CLIENTS = 1000

/** Keeps who stands behind each socket: decided once at the handshake, judged again when trust or time moves on. */
export function makePeers({ trust, policy, clock }: PeersOptions): Peers {
  const bySocket = new WeakMap<Socket, Peer>()
  const clients = new Map<string, Client>()

  function clientOf(socket: TLSSocket): Client | undefined {
    // Not getPeerX509Certificate: on servers of some Node 24 releases it never frees what it returns.
    const { raw }: { raw?: Buffer } = socket.getPeerCertificate()
    if (!raw) return undefined
    const key = hash('sha256', raw, 'base64')
    const client = clients.get(key) ?? newClient(readClientCertificate(new X509Certificate(raw)))
    clients.delete(key)
    clients.set(key, client)
    if (clients.size > MAX_CLIENTS) clients.delete(clients.keys().next().value ?? key)
    return client
  }

  function newClient(certificate: ClientCertificate): Client {
    return { certificate, grant: policy.grantFor(certificate), verdict: undefined }
  }

  function admit(socket: TLSSocket, verifiedUnder: Trust): Refusal | undefined {
    const client = socket.authorized ? clientOf(socket) : undefined
    if (!client) return 'untrusted'
    const peer = newPeer(client, client.grant, verifiedUnder)
    const refusal = judge(peer)
    if (!refusal) bySocket.set(socket, peer)
    return refusal
  }

  function judge(peer: Peer): Refusal | undefined {
    const { client, verifiedUnder, judgedUnder } = peer
    if (!client) return undefined
    const current = trust()
    const refusal = dateRefusal(client.certificate, clock.now())
    if (refusal || judgedUnder === current) return refusal
    const sameFile = verifiedUnder.authorities === current.authorities
    // TLS has verified the chain itself, over this very file. What it does not look at is revocation.
    const broken = sameFile && current.revoked.length === 0 ? undefined : chainRefusalOf(client, current)
    if (broken) return broken === 'untrusted' && sameFile ? 'undecidable' : broken
    peer.judgedUnder = current
    return undefined
  }

  /**
   * By what stands in the CA file alone: node does not show a server the intermediates that a client sent
   * (nodejs/node#65579), and a chain that can't be known can't be known to be free of revoked links.
   */
  function chainRefusalOf(client: Client, current: Trust): Refusal | undefined {
    if (client.verdict?.trust !== current) {
      const refusal = chainRefusal(client.certificate.x509, current, clock.now())
      client.verdict = { trust: current, refusal }
    }
    return client.verdict.refusal
  }

  return {
    trust,
    admit,
    judge,
    admitAnonymous: (socket, grant) => void bySocket.set(socket, newPeer(undefined, grant, trust())),
    of: (socket) => bySocket.get(socket),
  }
}

function newPeer(client: Client | undefined, grant: Grant, verifiedUnder: Trust): Peer {
  return { client, grant, verifiedUnder, judgedUnder: undefined, exchange: undefined, ending: false, served: false }
}
