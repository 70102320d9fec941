import type { X509Certificate } from 'node:crypto'
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
  /** Further certificates that the client itself presented at its last full handshake, in its order. */
  intermediates: readonly X509Certificate[]
  /** What was found about its chain, as long as trust and intermediates are these. */
  verdict: { trust: Trust; intermediates: readonly X509Certificate[]; refusal: Refusal | undefined } | undefined
}

/** The other end of one socket. Absent `client`: plain http, only where mTLS was switched off by hand. */
export interface Peer {
  readonly client: Client | undefined
  readonly grant: Grant
  /** The trust under which this socket was last found good. */
  trust: Trust
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
  /** Judges a socket whose handshake is done. A refusal means: destroy it. */
  admit(socket: TLSSocket): Refusal | undefined
  /** Takes a socket without TLS in; only with mTLS switched off. */
  admitAnonymous(socket: Socket, grant: Grant): void
  of(socket: Socket): Peer | undefined
  /** Judges a socket again, for the request at hand. A refusal means: 403 without body, and close. */
  judge(peer: Peer): Refusal | undefined
}

/**
 * Clients remembered, the least recently seen forgotten first. One that is forgotten and resumes a session is refused
 * where its chain needs certificates that only its full handshake carried.
 */
const MAX_CLIENTS = 1000
/** Certificates of one handshake that are looked at. */
const MAX_PRESENTED = 16

/** Keeps who stands behind each socket: decided once at the handshake, judged again when trust or time moves on. */
export function makePeers({ trust, policy, clock }: PeersOptions): Peers {
  const bySocket = new WeakMap<Socket, Peer>()
  const clients = new Map<string, Client>()

  function clientOf(socket: TLSSocket): Client | undefined {
    const x509 = socket.getPeerX509Certificate()
    if (!x509) return undefined
    const key = x509.fingerprint256
    const client = clients.get(key) ?? newClient(x509)
    clients.delete(key)
    clients.set(key, client)
    if (clients.size > MAX_CLIENTS) clients.delete(clients.keys().next().value ?? key)
    // A resumed session carries the leaf alone.
    const presented = socket.isSessionReused() ? client.intermediates : presentedWith(x509)
    if (!sameCertificates(presented, client.intermediates)) client.intermediates = presented
    return client
  }

  function newClient(x509: X509Certificate): Client {
    const certificate = readClientCertificate(x509)
    return { certificate, grant: policy.grantFor(certificate), intermediates: [], verdict: undefined }
  }

  function admit(socket: TLSSocket): Refusal | undefined {
    const client = socket.authorized ? clientOf(socket) : undefined
    if (!client) return 'untrusted'
    const current = trust()
    const refusal = dateRefusal(client.certificate, clock.now()) ?? chainRefusalOf(client, current)
    if (refusal) return refusal
    bySocket.set(socket, {
      client,
      grant: client.grant,
      trust: current,
      exchange: undefined,
      ending: false,
      served: false,
    })
    return undefined
  }

  /** Also finds what TLS does not look for, revoked links, and handshakes that began before the trust was replaced. */
  function chainRefusalOf(client: Client, current: Trust): Refusal | undefined {
    const { certificate, intermediates, verdict } = client
    if (verdict?.trust === current && verdict.intermediates === intermediates) return verdict.refusal
    const refusal = chainRefusal(certificate.x509, current, clock.now(), intermediates)
    client.verdict = { trust: current, intermediates, refusal }
    return refusal
  }

  function judge(peer: Peer): Refusal | undefined {
    const { client } = peer
    if (!client) return undefined
    const current = trust()
    const refusal = dateRefusal(client.certificate, clock.now())
    if (refusal || peer.trust === current) return refusal
    // After a change of the CA file only what stands in it counts, not what the client once presented.
    const sameFile = peer.trust.authorities === current.authorities
    const broken = sameFile
      ? chainRefusalOf(client, current)
      : chainRefusal(client.certificate.x509, current, clock.now(), [])
    if (!broken) peer.trust = current
    return broken
  }

  return {
    admit,
    judge,
    admitAnonymous(socket, grant) {
      bySocket.set(socket, {
        client: undefined,
        grant,
        trust: trust(),
        exchange: undefined,
        ending: false,
        served: false,
      })
    },
    of: (socket) => bySocket.get(socket),
  }
}

/** The certificates that came after the leaf, in the client's order, whatever they are. */
function presentedWith(leaf: X509Certificate): X509Certificate[] {
  const found: X509Certificate[] = []
  for (let next = leaf.issuerCertificate; next && found.length < MAX_PRESENTED; next = next.issuerCertificate) {
    found.push(next)
  }
  return found
}

function sameCertificates(one: readonly X509Certificate[], other: readonly X509Certificate[]): boolean {
  if (one.length !== other.length) return false
  return one.every((each, index) => each.fingerprint256 === other[index]?.fingerprint256)
}
