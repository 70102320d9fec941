import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import type { EncryptionType } from '../../src/crypto/encryption.ts'
import { KRB_ERRORS } from '../../src/kerberos/error-codes.ts'
import {
  errorMessage,
  type Info,
  methods,
  parseRequest,
  type Reply,
  replyMessage,
  type SeenRequest,
  timestampOf,
} from './kdc-messages.ts'

/**
 * A stand-in for a KDC over real sockets, for what no real one does when asked: silence, lies and nonsense.
 */

/** What a KDC sends back: a message, these very bytes on the wire, or nothing at all. */
export type Answer = Uint8Array | { readonly wire: Uint8Array } | 'silence' | 'hang-up'

/** How an honest KDC departs from the others, or from honesty. */
export interface Behaviour {
  /** The client's clock; the KDC's own is `ahead` of it. */
  readonly now: () => number
  readonly ahead?: number
  /** The client's key of an enctype. */
  readonly key: (enctype: EncryptionType) => Uint8Array
  readonly salt: string
  /** The enctype of the client's key. Default 18. */
  readonly enctype?: EncryptionType
  /** Default true. */
  readonly preauth?: boolean
  /** What it says of its keys; by default the truth. */
  readonly info?: readonly Info[]
  readonly cookie?: string
  readonly kvno?: number
  /** What is other than it should be in the reply. */
  readonly reply?: Partial<Reply> | ((request: SeenRequest) => Partial<Reply>)
  /** Called first; an answer of its own ends the matter. */
  readonly first?: (request: SeenRequest) => Answer | undefined
}

const { KDC_ERR_PREAUTH_FAILED, KDC_ERR_PREAUTH_REQUIRED, KRB_AP_ERR_SKEW } = KRB_ERRORS
/** TicketFlags: what a client may ask for, and what every initial ticket says. */
const ON_REQUEST = 0x4080_0000
const INITIAL = 0x0060_0000

/** What an honest KDC answers, but for `behaviour`. The timestamp has to be right within five minutes. */
export function honestKdc(behaviour: Behaviour): (request: SeenRequest) => Answer {
  const {
    now: clock,
    ahead = 0,
    key,
    salt,
    enctype = 18,
    preauth = true,
    cookie,
    kvno = 3,
    first,
    reply = {},
  } = behaviour
  const hint = methods(behaviour.info ?? [{ enctype, salt, rounds: 4096 }], cookie)
  return (request) => {
    const own = first?.(request)
    if (own !== undefined) return own
    const now = clock() + ahead
    if (preauth && !request.preauth.has(2)) return errorMessage(KDC_ERR_PREAUTH_REQUIRED, now, hint)
    if (preauth) {
      const time = timestampOf(request, enctype, key(enctype))
      if (time === undefined) return errorMessage(KDC_ERR_PREAUTH_FAILED, now, hint)
      if (Math.abs(time - now) > 300_000) return errorMessage(KRB_AP_ERR_SKEW, now)
    }
    const seconds = Math.floor(now / 1000) * 1000
    const server = ['krbtgt', request.realm]
    return replyMessage({
      client: request.client,
      realm: request.realm,
      server,
      ticketServer: server,
      nonce: request.nonce,
      flags: (request.options & ON_REQUEST) | INITIAL,
      authTime: seconds,
      startTime: seconds,
      endTime: request.till,
      renewTill: request.renewTill,
      sessionKey: { enctype, key: key(enctype).map((byte) => byte ^ 1) },
      enctype,
      key: key(enctype),
      kvno,
      padata: preauth ? undefined : hint,
      partTag: 25,
      ...(typeof reply === 'function' ? reply(request) : reply),
    })
  }
}

/** A KDC on loopback, on one port over both transports. */
export interface FakeKdc extends AsyncDisposable {
  readonly kdc: { readonly host: string; readonly port: number }
  readonly seen: readonly SeenRequest[]
}

/** Starts one that answers as `answer` says; without `tcp` or `udp` nobody listens there. */
export async function startKdc(
  answer: (request: SeenRequest) => Answer,
  { host = '127.0.0.1', transports = ['udp', 'tcp'] as readonly ('udp' | 'tcp')[] } = {},
): Promise<FakeKdc> {
  const seen: SeenRequest[] = []
  const sockets = new Set<Socket>()
  const ask = (bytes: Uint8Array, transport: SeenRequest['transport'], port: number) => {
    const request = parseRequest(bytes, transport, port)
    seen.push(request)
    return answer(request)
  }
  const tcp = createServer((socket) => {
    sockets.add(socket.on('error', () => {}))
    let received = Buffer.alloc(0)
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk])
      if (received.length < 4 || received.length < 4 + received.readUInt32BE(0)) return
      const answered = ask(received.subarray(4), 'tcp', socket.remotePort ?? 0)
      if (answered === 'silence') return
      if (answered === 'hang-up') socket.end()
      else if ('wire' in answered) socket.end(answered.wire)
      else socket.end(Buffer.concat([lengthOf(answered), answered]))
    })
  })
  tcp.listen(0, host)
  await once(tcp, 'listening')
  const { port } = tcp.address() as AddressInfo
  if (!transports.includes('tcp')) await new Promise((resolve) => tcp.close(resolve))
  const udp = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  udp.on('message', (bytes, from) => {
    const answered = ask(bytes, 'udp', from.port)
    if (typeof answered === 'string') return
    udp.send('wire' in answered ? answered.wire : answered, from.port, from.address)
  })
  if (transports.includes('udp')) {
    udp.bind(port, host)
    await once(udp, 'listening')
  }
  return {
    kdc: { host, port },
    seen,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      udp.close()
      if (tcp.listening) await new Promise((resolve) => tcp.close(resolve))
    },
  }
}

function lengthOf(bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return length
}
