import { createSocket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import { connect, type Socket } from 'node:net'
import { untilAborted } from '../base/until-aborted.ts'
import { MAX_MESSAGE_BYTES } from './as-messages.ts'

/** Sends one message to one host and gives the one that comes back; rejects with any error, or when `signal` ends it. */
type Send = (host: string, port: number, message: Uint8Array, signal: AbortSignal) => Promise<Uint8Array>

/** How KDCs are reached; a test puts its own in. */
export interface KdcSockets {
  readonly udp: Send
  readonly tcp: Send
}

/** The sockets of this machine. Names are looked up by the system, in /etc/hosts too. */
export const systemSockets: KdcSockets = { udp: sendDatagram, tcp: sendFramed }

/** Tries the addresses of a host one after the other, for as long as they refuse at once. */
async function sendDatagram(host: string, port: number, message: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
  const addresses = await lookup(host, { all: true })
  let refusal: unknown
  for (const { address, family } of addresses) {
    signal.throwIfAborted()
    try {
      return await exchangeDatagrams(family === 6 ? 'udp6' : 'udp4', address, port, message, signal)
    } catch (error) {
      refusal = error
    }
  }
  throw refusal
}

/** RFC 4120 7.2.1: a message is a datagram. The socket is connected, so no other host's answers get in. */
function exchangeDatagrams(
  type: 'udp4' | 'udp6',
  address: string,
  port: number,
  message: Uint8Array,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>()
  const socket = createSocket(type)
  socket.on('message', resolve)
  socket.on('error', reject)
  socket.connect(port, address, () => socket.send(message, (error) => error && reject(error)))
  return untilAborted(promise, signal).finally(() => socket.close())
}

/** RFC 4120 7.2.2: a message over TCP follows its length in four bytes, big-endian. */
async function sendFramed(host: string, port: number, message: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
  const socket = connect({ host, port, signal })
  try {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(message.length)
    // In one piece: some KDCs give up when the length comes alone.
    socket.write(Buffer.concat([length, message]))
    return await readFramed(socket)
  } finally {
    socket.destroy()
  }
}

async function readFramed(socket: Socket): Promise<Uint8Array> {
  let received = Buffer.alloc(0)
  for await (const chunk of socket) {
    received = Buffer.concat([received, chunk])
    const length = received.length < 4 ? 0 : received.readUInt32BE(0)
    if (length > MAX_MESSAGE_BYTES) throw new RangeError('the answer over TCP is too long')
    if (received.length >= 4 && received.length - 4 >= length) return received.subarray(4, 4 + length)
  }
  throw new RangeError('the answer over TCP is cut off')
}
