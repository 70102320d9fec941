import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import { type RequestOptions, request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Clock, systemClock } from '../../src/base/clock.ts'
import type { Log } from '../../src/base/log.ts'
import type { ClientRule } from '../../src/broker/policy.ts'
import { file } from '../../src/providers/file/index.ts'
import type { Provider } from '../../src/providers/provider.ts'
import { type Service, type ServiceConfig, startService } from '../../src/server/service.ts'
import { makePki, type Pki, type PkiFiles, type TestCertificate, writePki } from './pki.ts'

/** The credential that every rig holds as account `test-secret`. */
export const CREDENTIAL = { username: 'username', password: 'password', domainName: 'ad.domain' }

export interface LogLine {
  readonly level: string
  readonly message: string
  readonly [field: string]: unknown
}

/** A log that keeps its lines, and hands them on to `other`. */
export function keepingLog(other?: Log): { readonly log: Log; readonly lines: LogLine[] } {
  const lines: LogLine[] = []
  const to = (level: keyof Log) => (fields: object, message: string) => {
    lines.push({ level, message, ...fields })
    other?.[level](fields, message)
  }
  const log = { trace: to('trace'), debug: to('debug'), info: to('info'), warn: to('warn'), error: to('error') }
  return { log, lines }
}

export interface RigOptions {
  readonly pki?: Pki
  readonly clients?: readonly ClientRule[]
  readonly config?: Partial<ServiceConfig>
  readonly providers?: ReadonlyMap<string, Provider>
  readonly clock?: Clock
  readonly maxEventLoopDelay?: number
  /** Files of the secrets folder, by name. */
  readonly secrets?: Readonly<Record<string, string>>
  readonly crl?: string
  /** Is told everything too, beside the kept lines. */
  readonly log?: Log
  /** mTLS switched off by hand: no certificates at all on the data listener. */
  readonly plainHttp?: boolean
}

/** The real service on loopback, over a folder of secrets and throw-away certificates. */
export interface Rig extends AsyncDisposable {
  readonly service: Service
  readonly directory: string
  readonly pki: Pki
  readonly files: PkiFiles
  readonly lines: LogLine[]
  get(path: string, options?: CallOptions): Promise<Reply>
  provider(account: string, options?: CallOptions): Promise<Reply>
  admin(path: string, headers?: Record<string, string>): Promise<Reply>
  writeSecret(name: string, text: string): Promise<void>
}

export interface CallOptions extends RequestOptions {
  readonly client?: TestCertificate | null
  readonly body?: string
}

export interface Reply {
  readonly status: number
  readonly headers: Record<string, string | string[] | undefined>
  readonly body: string
  readonly bytes: Buffer
}

export async function makeRig(options: RigOptions = {}): Promise<Rig> {
  const directory = await mkdtemp(join(tmpdir(), 'gmsa-rig-'))
  const pki = options.pki ?? (await makePki())
  const files = await writePki(directory, pki)
  const crl = join(directory, 'ca', 'ca.crl')
  if (options.crl) await writeFile(crl, options.crl)
  const secrets = join(directory, 'secrets')
  await mkdir(secrets, { mode: 0o700 })
  const writeSecret = (name: string, text: string) => writeFile(join(secrets, name), text, { mode: 0o600 })
  await writeSecret('test-secret.json', JSON.stringify(CREDENTIAL))
  for (const [name, text] of Object.entries(options.secrets ?? {})) await writeSecret(name, text)
  const { log, lines } = keepingLog(options.log)
  const clock = options.clock ?? systemClock
  const providers =
    options.providers ?? new Map([['local', await file.open('local', { directory: secrets }, { log, clock })]])
  const service = await startService({
    config: {
      listen: { hosts: ['127.0.0.1', '::1'], port: 0 },
      admin: { host: '127.0.0.1', port: 0 },
      ...(!options.plainHttp && {
        tls: { ...files.server, clientCa: files.ca, crlExpired: 'refuse' as const, ...(options.crl && { crl }) },
      }),
      accounts: new Map([['test-secret', { provider: 'local', options: {} }]]),
      cache: { maxAge: 30_000, serveStale: 3_600_000 },
      timeouts: { store: 5_000, request: 10_000 },
      shutdown: { drainDelay: 0, grace: 5_000 },
      limits: { requestsPerSecond: 500 },
      ...(options.clients && { clients: options.clients }),
      ...options.config,
    },
    providers,
    clock,
    log,
    version: '0.0.0-test',
    commit: 'none',
    ...(options.maxEventLoopDelay && { maxEventLoopDelay: options.maxEventLoopDelay }),
  })
  const get = (path: string, { client = pki.client, ...more }: CallOptions = {}) =>
    call({
      host: '127.0.0.1',
      port: service.port,
      path,
      servername: 'localhost',
      ca: pki.ca.certificate,
      ...(client && { cert: client.certificate, key: client.key }),
      agent: false,
      ...more,
    })
  return {
    service,
    directory,
    pki,
    files,
    lines,
    get,
    provider: (account, more = {}) => get('/provider', { ...more, headers: { object: account, ...more.headers } }),
    admin: (path, headers = {}) => call({ ...service.admin, path, headers, agent: false }, httpRequest),
    writeSecret,
    async [Symbol.asyncDispose]() {
      await service.stop()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** One request, its answer read to the end. */
export function call(
  { body, ...options }: CallOptions,
  send: (options: RequestOptions, answer: (response: IncomingMessage) => void) => ClientRequest = request,
): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>()
  const outgoing = send(options, (response) => {
    const chunks: Buffer[] = []
    response.on('data', (chunk: Buffer) => chunks.push(chunk))
    response.on('end', () => {
      const { statusCode = 0, headers } = response
      const bytes = Buffer.concat(chunks)
      resolve({ status: statusCode, headers, body: bytes.toString(), bytes })
    })
    response.on('error', reject)
  })
  outgoing.on('error', reject)
  outgoing.end(body)
  return promise
}
