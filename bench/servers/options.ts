import { readFileSync } from 'node:fs'
import type { ServerOptions } from 'node:https'
import { ACCOUNT } from '../credential.ts'

/** What both servers of comparison are started with: `node raw.js PORT CERTIFICATE KEY CLIENT-CA`. */
const [port = '', certificate = '', key = '', clientCa = ''] = process.argv.slice(2)

export const listenOptions = { host: '127.0.0.1', port: Number(port) }

/** The TLS and HTTP options of the product's listener. */
export const serverOptions: ServerOptions = {
  cert: readFileSync(certificate),
  key: readFileSync(key),
  ca: readFileSync(clientCa),
  minVersion: 'TLSv1.2',
  maxVersion: 'TLSv1.3',
  requestCert: true,
  rejectUnauthorized: true,
  ALPNProtocols: ['http/1.1'],
  handshakeTimeout: 10_000,
  maxHeaderSize: 16 * 1024,
  headersTimeout: 10_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 65_000,
  connectionsCheckingInterval: 1_000,
  noDelay: true,
}

export function isAsked(path: string | undefined, account: string | string[] | undefined): boolean {
  return path === '/provider' && account === ACCOUNT
}
