import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** Connections passed on, see {@link relay}. */
export interface Relay extends AsyncDisposable {
  readonly port: number
  /** Ends the connections there are. */
  cut(): void
}

/** Passes connections on to a controller, from a port of `own`, by default an address that is in no certificate of the lab. */
export async function relay(host: string, transport: 'ldaps' | 'starttls', own = '127.0.0.1'): Promise<Relay> {
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    const far = connect(transport === 'ldaps' ? 636 : 389, host)
    for (const socket of [near, far]) sockets.add(socket.on('error', () => {}))
    near.pipe(far).pipe(near)
  })
  server.listen(0, own)
  await once(server, 'listening')
  const cut = () => {
    for (const socket of sockets) socket.destroy()
    sockets.clear()
  }
  return {
    port: (server.address() as AddressInfo).port,
    cut,
    async [Symbol.asyncDispose]() {
      cut()
      server.close()
      await once(server, 'close')
    },
  }
}
