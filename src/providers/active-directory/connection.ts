import { connect, isIP, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import { Client } from 'ldapts'
import { systemRoots } from '../system-roots.ts'

export type Transport = 'ldaps' | 'starttls'

/** How one domain controller is reached. Its certificate is always verified, against `tls.ca` and `host`. */
export interface Link {
  /** DNS name or address, also the name that the certificate has to carry. */
  readonly host: string
  readonly port: number
  readonly transport: Transport
  /** PEM: `ca` (absent: the system's roots), and `cert` and `key` where we show one. */
  readonly tls: Pick<ConnectionOptions, 'ca' | 'cert' | 'key'>
  /** For connecting and for each answer, in ms. */
  readonly timeout: number
}

/** One LDAP connection, encrypted as soon as {@link Connection.secure} has resolved, and never another one. */
export interface Connection {
  readonly host: string
  readonly transport: Transport
  /** Connects at its first operation. Once the connection has ended every operation fails: none goes out without log-on. */
  readonly client: Client
  /** StartTLS; with LDAPS nothing is left to do. Nothing may be sent before. */
  secure(): Promise<void>
  /** False once either side has ended it, or an error has. */
  isOpen(): boolean
  /** Ends it at once; operations under way fail. */
  close(): void
}

/** Makes a connection that connects when first used. Errors are the library's: see directoryError. */
export function openConnection({ host, port, transport, tls, timeout }: Link): Connection {
  const sockets: Socket[] = []
  let open = true
  const verified: ConnectionOptions = {
    ...tls,
    ca: tls.ca ?? systemRoots(),
    // Said aloud, or an environment variable could turn it off.
    rejectUnauthorized: true,
    minVersion: 'TLSv1.2',
    host,
    // The name to verify. For an address `host` is: it may not stand in the handshake (RFC 6066 3).
    ...(isIP(host) === 0 ? { servername: host } : {}),
  }

  /** The library would connect anew by itself after a loss, and go on without a log-on: the second time it can't. */
  function once<F extends (...args: never[]) => Socket>(make: F): F {
    let made = false
    const makeOnce = (...args: never[]) => {
      if (made || !open) throw new Error('Socket connection not established')
      made = true
      const socket = make(...args)
      sockets.push(socket)
      return socket
    }
    return makeOnce as F
  }

  const authority = `${host.includes(':') ? `[${host}]` : host}:${port}`
  const client = new Client({
    url: `${transport === 'ldaps' ? 'ldaps' : 'ldap'}://${authority}`,
    ...(transport === 'ldaps' ? { tlsOptions: verified } : {}),
    timeout,
    connectTimeout: timeout,
    createConnection: once(connect),
    createSecureConnection: once(connectTls),
  })
  return {
    host,
    transport,
    client,
    secure: async () => (transport === 'starttls' ? client.startTLS({ ...verified }) : undefined),
    // Looked at rather than listened for: the library takes our listeners off, and errors come before the end.
    isOpen: () => open && sockets.every((socket) => !socket.destroyed && socket.writable),
    close() {
      open = false
      // Says goodbye where it can; the socket is ended either way.
      client.unbind().catch(() => {})
      for (const socket of sockets) socket.destroy()
    },
  }
}
