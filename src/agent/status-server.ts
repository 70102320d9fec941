import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { GmsaError } from '../base/errors.ts'
import { createServer } from '../base/node-http.ts'
import type { AgentStatus } from './status.ts'

export interface StatusServerOptions {
  readonly host: string
  readonly port: number
  readonly status: () => AgentStatus
  /** The metrics. */
  readonly render: () => string
}

export interface StatusServer extends AsyncDisposable {
  readonly host: string
  readonly port: number
}

/** Opens the plain listener for probes, metrics and `agent status`; nothing it serves is secret. Rejects with CONFIG_INVALID. */
export async function openStatusServer(options: StatusServerOptions): Promise<StatusServer> {
  const { host, port } = options
  const server = createServer({ requestTimeout: 5_000, headersTimeout: 5_000 }, (request, response) =>
    answer(request, response, options),
  )
  server.maxConnections = 64
  try {
    server.listen({ host, port, exclusive: true })
    await once(server, 'listening')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new GmsaError('CONFIG_INVALID', `status: ${host} port ${port}: ${code}`, {
      cause: error,
      ...(code === 'EADDRINUSE' && { hint: 'another process listens there: choose another status.port' }),
    })
  }
  return {
    host,
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

function answer(request: IncomingMessage, response: ServerResponse, options: StatusServerOptions): void {
  const { method, url = '/' } = request
  const known = method === 'GET' || method === 'HEAD'
  const { code, type = 'text/plain', text = '' } = known ? pageOf(url, options) : { code: 405 }
  const length = Buffer.byteLength(text)
  response.writeHead(code, { 'content-type': type, 'content-length': length, 'cache-control': 'no-store' })
  response.end(method === 'HEAD' ? undefined : text)
}

interface Page {
  readonly code: number
  readonly type?: string
  readonly text?: string
}

function pageOf(url: string, { status, render }: StatusServerOptions): Page {
  switch (url.split('?')[0]) {
    case '/livez':
      return { code: 200, text: 'ok\n' }
    case '/readyz':
    case '/healthz': {
      const now = status()
      return { code: now.ready ? 200 : 503, text: readiness(now, url.includes('verbose')) }
    }
    case '/metrics':
      return { code: 200, type: 'text/plain; version=0.0.4; charset=utf-8', text: render() }
    case '/status':
      return { code: 200, type: 'application/json; charset=utf-8', text: `${JSON.stringify(status(), null, 2)}\n` }
    default:
      return { code: 404 }
  }
}

/** In the form that Kubernetes gives its own. */
function readiness({ ready, outputs, disabled }: AgentStatus, verbose: boolean): string {
  if (ready && !verbose) return 'ok\n'
  const lines = [
    ...outputs.map(({ account, kind, reason }) => {
      return reason === undefined ? `[+]${account}-${kind} ok` : `[-]${account}-${kind} failed: ${reason}`
    }),
    ...disabled.map(({ account }) => `[-]${account} failed: left out, its configuration is wrong`),
  ]
  return `${lines.join('\n')}\nreadyz check ${ready ? 'passed' : 'failed'}\n`
}
