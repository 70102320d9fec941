import type { X509Certificate } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Clock } from '../base/clock.ts'
import type { Grant, Policy } from '../broker/policy.ts'
import { type ClientCertificate, readClientCertificate } from './client-certificate.ts'
import { chainsTo, type Refusal, refusalOf, type Trust } from './trust.ts'

/** A client certificate and what follows from it; the same object for all sockets of one certificate. */
interface Client {
  readonly certificate: ClientCertificate
  readonly grant: Grant
  /** CA certificates that the client itself presented at its last full handshake. */
  intermediates: readonly X509Certificate[]
}

/** The other end of one socket. Absent `client`: plain http, only where mTLS was switched off by hand. */
export interface Peer {
  readonly client: Client | undefined
  readonly grant: Grant
  /** The trust under which this socket was last found good. */
  epoch: number
  /** The last request on this socket and its response, for errors that node meets below the framework. */
  exchange: { readonly request: IncomingMessage; readonly response: ServerResponse } | undefined
  /** Set once the connection is being ended because of such an error. */
  ending: boolean
}

export interface PeersOptions {
  readonly trust: () => Trust
  readonly policy: Policy
  readonly clock: Clock
  /** For this many ms after a change of trust a handshake may still have been made under the old one. */
  readonly handshakeTimeout: number
}

export interface Peers {
  /** Judges a socket whose handshake is done. A refusal means: destroy it. */
  admit(socket: TLSSocket): Refusal | undefined
  /** Takes a socket without TLS in; only with mTLS switched off. */
  admitAnonymous(socket: Socket, grant: Grant): void
  of(socket: Socket): Peer | undefined
  /** Judges a socket again, for the request at hand. A refusal means: 403 without body, and close. */
  judge(peer: Peer): Refusal | undefined
  /** To be called after the trust was replaced. */
  trustChanged(): void
}

const MAX_CLIENTS = 1000

/** Keeps who stands behind each socket: decided once at the handshake, judged again when trust or time moves on. */
export function makePeers({ trust, policy, clock, handshakeTimeout }: PeersOptions): Peers {
  const bySocket = new WeakMap<Socket, Peer>()
  const clients = new Map<string, Client>()
  let unsettledUntil = Number.NEGATIVE_INFINITY

  function clientOf(socket: TLSSocket): Client | undefined {
    const x509 = socket.getPeerX509Certificate()
    if (!x509) return undefined
    const key = x509.fingerprint256
    const known = clients.get(key)
    if (known) {
      if (!socket.isSessionReused() && known.intermediates.length > 0) known.intermediates = presentedWith(x509)
      return known
    }
    const certificate = readClientCertificate(x509)
    const client = { certificate, grant: policy.grantFor(certificate), intermediates: presentedWith(x509) }
    clients.set(key, client)
    if (clients.size > MAX_CLIENTS) clients.delete(clients.keys().next().value ?? key)
    return client
  }

  function admit(socket: TLSSocket): Refusal | undefined {
    const client = socket.authorized ? clientOf(socket) : undefined
    if (!client) return 'untrusted'
    const current = trust()
    const now = clock.now()
    const refusal = refusalOf(client.certificate, client.intermediates, current, now)
    if (refusal) return refusal
    const unsettled = clock.monotonic() < unsettledUntil
    if (unsettled && !chainsTo(client.certificate.x509, current, now, client.intermediates)) return 'untrusted'
    bySocket.set(socket, { client, grant: client.grant, epoch: current.epoch, exchange: undefined, ending: false })
    return undefined
  }

  function judge(peer: Peer): Refusal | undefined {
    const { client } = peer
    if (!client) return undefined
    const current = trust()
    const now = clock.now()
    const refusal = refusalOf(client.certificate, client.intermediates, current, now)
    if (refusal || peer.epoch === current.epoch) return refusal
    // Only what stands in the new file counts here, not what the client once presented.
    if (!chainsTo(client.certificate.x509, current, now)) return 'untrusted'
    peer.epoch = current.epoch
    return undefined
  }

  return {
    admit,
    judge,
    admitAnonymous(socket, grant) {
      bySocket.set(socket, { client: undefined, grant, epoch: 0, exchange: undefined, ending: false })
    },
    of: (socket) => bySocket.get(socket),
    trustChanged() {
      unsettledUntil = clock.monotonic() + handshakeTimeout
    },
  }
}

/** The CA certificates between the leaf and its root, as the client sent them. None on a resumed session. */
function presentedWith(leaf: X509Certificate): X509Certificate[] {
  const found: X509Certificate[] = []
  let next = leaf.issuerCertificate
  while (next && found.length < 8 && !next.checkIssued(next)) {
    found.push(next)
    next = next.issuerCertificate
  }
  return found
}
