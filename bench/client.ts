/**
 * The load client, a process of its own: takes one {@link Job} at a time over IPC and answers with a {@link Result}.
 * Requests are written and answers read by hand, so that the client is not what is measured.
 */
import { once } from 'node:events'
import { connect, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls'

/** What a client is and what it expects. Certificates and key as PEM. */
export interface Access {
  readonly port: number
  readonly ca: string
  readonly certificate: string
  readonly key: string
  readonly account: string
  /** The exact body of a good answer. */
  readonly expected: string
}

export interface Job extends Access {
  /** `new`: a connection with a full handshake for each request. `kept`: connections that stay open. */
  readonly kind: 'new' | 'kept'
  readonly count: number
  readonly connections: number
  /** In ms; what has not been asked by then is left out. */
  readonly limit: number
}

export interface Result {
  readonly good: number
  readonly failed: number
  /** The first failure, in words. */
  readonly problem?: string
  /** In ms. */
  readonly elapsed: number
}

const ANSWER_TIMEOUT = 10_000

/** One TLS 1.2 connection. No session is offered, so that each handshake is a full one. */
export async function openConnection(access: Access, secureContext: SecureContext): Promise<TLSSocket> {
  const socket = connect({
    host: '127.0.0.1',
    port: access.port,
    servername: 'localhost',
    secureContext,
    ALPNProtocols: ['http/1.1'],
  })
  socket.setNoDelay(true)
  socket.setTimeout(ANSWER_TIMEOUT, () => socket.destroy(new Error('no answer in time')))
  await once(socket, 'secureConnect')
  if (socket.isSessionReused()) throw new Error('the session was resumed')
  return socket
}

export function makeContext({ ca, certificate, key }: Access): SecureContext {
  return createSecureContext({ ca, cert: certificate, key, minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' })
}

/** One request and its whole answer. Rejects unless it is a 200 with the expected body. */
export function ask(socket: TLSSocket, { account, expected }: Access): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  let text = ''
  const onData = (chunk: Buffer): void => {
    text += chunk.toString('latin1')
    const end = text.indexOf('\r\n\r\n')
    if (end < 0) return
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(text.slice(0, end + 2))?.[1] ?? Number.NaN)
    if (text.length < end + 4 + length) return
    done(text.startsWith('HTTP/1.1 200 ') && text.slice(end + 4) === expected ? undefined : firstLine(text))
  }
  const onClose = (): void => done('closed without an answer')
  const done = (problem: string | undefined): void => {
    socket.off('data', onData).off('close', onClose).off('error', reject)
    if (problem === undefined) resolve()
    else reject(new Error(problem))
  }
  socket.on('data', onData).on('close', onClose).on('error', reject)
  socket.write(`GET /provider HTTP/1.1\r\nHost: localhost\r\nobject: ${account}\r\n\r\n`)
  return promise
}

const firstLine = (text: string): string => text.slice(0, text.indexOf('\r\n')) || 'an answer without a first line'

/** Says goodbye and waits until the server has said so too. */
export async function closeConnection(socket: TLSSocket): Promise<void> {
  const closed = once(socket, 'close')
  socket.end()
  socket.resume()
  await closed
}

async function work(job: Job): Promise<Result> {
  const context = makeContext(job)
  const started = performance.now()
  let left = job.count
  let good = 0
  const problems: string[] = []
  const more = (): boolean => left-- > 0 && performance.now() - started < job.limit
  const note = (error: unknown): void => void problems.push(error instanceof Error ? error.message : String(error))

  async function askAnew(): Promise<void> {
    const socket = await openConnection(job, context)
    socket.on('error', () => {})
    try {
      await ask(socket, job)
    } finally {
      await closeConnection(socket)
    }
    good += 1
  }

  async function askOverOne(): Promise<void> {
    const socket = await openConnection(job, context)
    socket.on('error', () => {})
    while (more()) {
      await ask(socket, job)
      good += 1
    }
    await closeConnection(socket)
  }

  async function run(): Promise<void> {
    if (job.kind === 'kept') return askOverOne().catch(note)
    while (more()) await askAnew().catch(note)
  }

  await Promise.all(Array.from({ length: job.connections }, run))
  const [problem] = problems
  const failed = problems.length
  return { good, failed, ...(problem !== undefined && { problem }), elapsed: performance.now() - started }
}

if (process.send) {
  process.on('message', (job: Job) => void work(job).then((result) => process.send?.(result)))
  process.on('disconnect', () => process.exit())
}
