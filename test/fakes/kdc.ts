import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import * as asn1 from 'asn1js'
import { decrypt, type EncryptionType, encrypt } from '../../src/crypto/encryption.ts'

/**
 * A stand-in for a KDC, for what no real one does when asked: silence, lies and nonsense. It speaks RFC 4120 over real
 * sockets, with an encoder and a decoder that are not those of the product.
 */

const constructed = (tagClass: 2 | 3, tagNumber: number, ...value: asn1.BaseBlock[]) =>
  new asn1.Constructed({ idBlock: { tagClass, tagNumber }, value })
const field = (number: number, value: asn1.BaseBlock) => constructed(3, number, value)
const message = (number: number, ...fields: asn1.BaseBlock[]) =>
  constructed(2, number, new asn1.Sequence({ value: fields }))
const sequence = (...value: asn1.BaseBlock[]) => new asn1.Sequence({ value })
const integer = (value: number) => new asn1.Integer({ value })
const octets = (bytes: Uint8Array) => new asn1.OctetString({ valueHex: Uint8Array.from(bytes).buffer })
const text = (value: string) => new asn1.GeneralString({ value })
const bits = (value: number) =>
  new asn1.BitString({ valueHex: Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value).buffer, unusedBits: 0 })
const time = (ms: number) =>
  new asn1.Primitive({
    idBlock: { tagClass: 1, tagNumber: 24 },
    valueHex: new TextEncoder().encode(new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, '')),
  })
const name = (...parts: string[]) => sequence(field(0, integer(1)), field(1, sequence(...parts.map(text))))
const der = (block: asn1.BaseBlock) => Buffer.from(block.toBER())

/** What an AS-REQ asked for. */
export interface SeenRequest {
  readonly transport: 'udp' | 'tcp'
  /** The client's port. */
  readonly port: number
  readonly client: string
  readonly realm: string
  readonly options: number
  readonly till: number
  readonly renewTill: number | undefined
  readonly nonce: number
  readonly enctypes: readonly number[]
  readonly preauth: ReadonlyMap<number, Uint8Array>
}

const children = (block: asn1.BaseBlock | undefined): asn1.BaseBlock[] =>
  block instanceof asn1.Constructed || block instanceof asn1.Sequence ? block.valueBlock.value : []
const fieldsOf = (block: asn1.BaseBlock | undefined) =>
  new Map(children(block).map((each) => [each.idBlock.tagNumber, children(each)[0]]))
const bytesOf = (block: asn1.BaseBlock | undefined) =>
  block && 'valueHexView' in block.valueBlock
    ? Buffer.from(block.valueBlock.valueHexView as Uint8Array)
    : Buffer.alloc(0)
const numberOf = (block: asn1.BaseBlock | undefined) => bytesOf(block).readUIntBE(0, bytesOf(block).length)
const timeOf = (block: asn1.BaseBlock | undefined) =>
  Date.parse(
    bytesOf(block)
      .toString()
      .replace(/(....)(..)(..)(..)(..)(..)Z/, '$1-$2-$3T$4:$5:$6Z'),
  )

function parseRequest(bytes: Uint8Array, transport: SeenRequest['transport'], port: number): SeenRequest {
  const outer = fieldsOf(children(asn1.fromBER(Uint8Array.from(bytes)).result)[0])
  const body = fieldsOf(outer.get(4))
  const padata = children(outer.get(3)).map((each) => {
    const pair = fieldsOf(each)
    return [numberOf(pair.get(1)), bytesOf(pair.get(2))] as const
  })
  const client = children(fieldsOf(body.get(1)).get(1)).map((part) => bytesOf(part).toString())
  return {
    transport,
    port,
    client: client.join('/'),
    realm: bytesOf(body.get(2)).toString(),
    options: bytesOf(body.get(0)).readUInt32BE(0),
    till: timeOf(body.get(5)),
    renewTill: body.has(6) ? timeOf(body.get(6)) : undefined,
    nonce: numberOf(body.get(7)),
    enctypes: children(body.get(8)).map(numberOf),
    preauth: new Map(padata),
  }
}

/** One row of ETYPE-INFO2. */
export interface Info {
  readonly enctype: number
  readonly salt?: string
  readonly rounds?: number
}

/** The padata of ETYPE-INFO2, and a cookie to be sent back. */
export function methods(infos: readonly Info[], cookie?: string): asn1.BaseBlock {
  const rows = infos.map(({ enctype, salt, rounds }) => {
    const parameters = Buffer.alloc(4)
    parameters.writeUInt32BE(rounds ?? 0)
    return sequence(
      field(0, integer(enctype)),
      ...(salt === undefined ? [] : [field(1, text(salt))]),
      ...(rounds === undefined ? [] : [field(2, octets(parameters))]),
    )
  })
  const padata = (type: number, value: Uint8Array) => sequence(field(1, integer(type)), field(2, octets(value)))
  return sequence(
    padata(2, new Uint8Array()),
    padata(19, der(sequence(...rows))),
    ...(cookie === undefined ? [] : [padata(133, Buffer.from(cookie))]),
  )
}

/** A KRB-ERROR. */
export function errorMessage(code: number, now: number, data?: asn1.BaseBlock | Uint8Array): Buffer {
  const bytes = data instanceof Uint8Array ? data : data && der(data)
  return der(
    message(
      30,
      field(0, integer(5)),
      field(1, integer(30)),
      field(4, time(now)),
      field(5, integer((now % 1000) * 1000)),
      field(6, integer(code)),
      field(9, text('AD.TEST')),
      field(10, name('krbtgt', 'AD.TEST')),
      field(11, text('said by a stand-in')),
      ...(bytes ? [field(12, octets(bytes))] : []),
    ),
  )
}

/** Everything an AS-REP says; a test changes one thing. */
export interface Reply {
  readonly client: string
  readonly realm: string
  readonly server: readonly string[]
  readonly ticketServer: readonly string[]
  readonly nonce: number
  readonly flags: number
  readonly authTime: number
  readonly startTime: number | undefined
  readonly endTime: number
  readonly renewTill: number | undefined
  readonly sessionKey: { readonly enctype: number; readonly key: Uint8Array }
  readonly enctype: EncryptionType
  readonly key: Uint8Array
  readonly kvno: number | undefined
  readonly padata: asn1.BaseBlock | undefined
  /** The tag of the encrypted part: 25, or 26 as some KDCs have it. */
  readonly partTag: number
}

export function replyMessage(reply: Reply): Buffer {
  const { client, realm, server, ticketServer, startTime, renewTill, kvno, padata, sessionKey } = reply
  const encrypted = (enctype: number, cipher: Uint8Array, version?: number) =>
    sequence(
      field(0, integer(enctype)),
      ...(version === undefined ? [] : [field(1, integer(version))]),
      field(2, octets(cipher)),
    )
  const part = message(
    reply.partTag,
    field(0, sequence(field(0, integer(sessionKey.enctype)), field(1, octets(sessionKey.key)))),
    field(1, sequence(sequence(field(0, integer(0)), field(1, time(0))))),
    field(2, integer(reply.nonce)),
    field(4, bits(reply.flags)),
    field(5, time(reply.authTime)),
    ...(startTime === undefined ? [] : [field(6, time(startTime))]),
    field(7, time(reply.endTime)),
    ...(renewTill === undefined ? [] : [field(8, time(renewTill))]),
    field(9, text(realm)),
    field(10, name(...server)),
    // An extension of RFC 6806, which clients that do not know it have to pass over.
    field(12, sequence()),
  )
  const confounder = new Uint8Array(reply.enctype === 23 ? 8 : 16).fill(7)
  const cipher = encrypt(reply.enctype, reply.key, 3, der(part), confounder)
  const ticket = message(
    1,
    field(0, integer(5)),
    field(1, text(realm)),
    field(2, name(...ticketServer)),
    field(3, encrypted(18, Buffer.from('sealed for the KDC'))),
  )
  return der(
    message(
      11,
      field(0, integer(5)),
      field(1, integer(11)),
      ...(padata ? [field(2, padata)] : []),
      field(3, text(realm)),
      field(4, name(...client.split('/'))),
      field(5, ticket),
      field(6, encrypted(reply.enctype, cipher, kvno)),
    ),
  )
}

/** The client's time in a request's PA-ENC-TIMESTAMP, in ms; undefined where the key does not open it. */
export function timestampOf(request: SeenRequest, enctype: EncryptionType, key: Uint8Array): number | undefined {
  const value = request.preauth.get(2)
  const encrypted = value && fieldsOf(asn1.fromBER(Uint8Array.from(value)).result)
  if (!encrypted || numberOf(encrypted.get(0)) !== enctype) return undefined
  const opened = decrypt(enctype, key, 1, bytesOf(encrypted.get(2)))
  const fields = opened && fieldsOf(asn1.fromBER(Uint8Array.from(opened)).result)
  return fields && timeOf(fields.get(0)) + numberOf(fields.get(1)) / 1000
}

/** What a KDC sends back: a message, these very bytes on the wire, or nothing at all. */
export type Answer = Uint8Array | { readonly wire: Uint8Array } | 'silence' | 'hang-up'

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
