import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rename, writeFile } from 'node:fs/promises'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { expect } from 'vitest'
import { type Clock, systemClock } from '../../src/base/clock.ts'
import { Secret } from '../../src/base/secret.ts'
import type { MaterialOf } from '../../src/gmsa/material.ts'
import type { Provider } from '../../src/providers/provider.ts'
import type { TestCertificate } from '../fakes/pki.ts'
import { CREDENTIAL, type Rig } from '../fakes/rig.ts'

/** What /provider answers for the rig's own account. */
export const CREDENTIAL_BODY = JSON.stringify(CREDENTIAL)

/** A good request for the rig's own account. */
export const GOOD = 'GET /provider HTTP/1.1\r\nHost: localhost\r\nobject: test-secret\r\n\r\n'
/** The same, and no more on this connection. */
export const LAST = 'GET /provider HTTP/1.1\r\nHost: localhost\r\nobject: test-secret\r\nConnection: close\r\n\r\n'

/** One HTTP response, taken apart by hand: no library that forgives anything. */
export interface Answer {
  readonly status: number
  readonly head: string
  /** Names in lower case. A name that comes twice is an error. */
  readonly headers: ReadonlyMap<string, string>
  readonly body: string
}

/** A raw TLS connection to the rig. */
export interface Wire extends Disposable {
  readonly socket: TLSSocket
  write(bytes: string | Buffer): void
  /** The next response. Rejects when the connection ends before it is complete. */
  next(method?: string): Promise<Answer>
  /** Waits until the server has ended the connection, and gives the bytes that nobody took. */
  rest(): Promise<string>
  /** Whether the server ends the connection within `ms`. */
  endsWithin(ms: number): Promise<boolean>
}

export interface WireOptions extends ConnectionOptions {
  readonly client?: TestCertificate | null
}

const PATIENCE = 8_000

/** Connects, and resolves when the handshake is done on this side. */
export async function openWire(rig: Rig, { client = rig.pki.client, ...more }: WireOptions = {}): Promise<Wire> {
  const socket = connect({
    host: '127.0.0.1',
    port: rig.service.port,
    servername: 'localhost',
    ca: rig.pki.ca.certificate,
    ...(client && { cert: client.certificate, key: client.key }),
    ...more,
  })
  const wire = readFrom(socket)
  await Promise.race([
    once(socket, 'secureConnect'),
    once(socket, 'close').then(() => Promise.reject(new Error('the connection was closed in the handshake'))),
  ])
  return wire
}

function readFrom(socket: TLSSocket): Wire {
  let seen = Buffer.alloc(0)
  let ended = false
  let wake = () => {}
  socket.on('data', (chunk: Buffer) => {
    seen = Buffer.concat([seen, chunk])
    wake()
  })
  const end = () => {
    ended = true
    wake()
  }
  // A reset is an end like any other here: the bytes before it count.
  for (const event of ['end', 'close', 'error']) socket.on(event, end)

  async function until(ready: () => boolean, ms = PATIENCE): Promise<boolean> {
    const deadline = performance.now() + ms
    while (!ready()) {
      const left = deadline - performance.now()
      if (left <= 0) return false
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    return true
  }

  return {
    socket,
    write: (bytes) => void socket.write(bytes),
    async next(method = 'GET') {
      let taken: { answer: Answer; length: number } | undefined
      await until(() => {
        taken = takeAnswer(seen, method)
        return taken !== undefined || ended
      })
      if (!taken) throw new Error(`no whole answer, but ${JSON.stringify(seen.toString().slice(0, 200))}`)
      seen = seen.subarray(taken.length)
      return taken.answer
    },
    async rest() {
      if (!(await until(() => ended))) throw new Error('the server keeps the connection open')
      return seen.toString()
    },
    endsWithin: (ms) => until(() => ended, ms),
    [Symbol.dispose]: () => void socket.destroy(),
  }
}

function takeAnswer(bytes: Buffer, method: string): { answer: Answer; length: number } | undefined {
  const end = bytes.indexOf('\r\n\r\n')
  if (end < 0) return undefined
  const head = bytes.subarray(0, end).toString('latin1')
  const [line = '', ...fields] = head.split('\r\n')
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(line)?.[1])
  if (!status) throw new Error(`no status line: ${line}`)
  const headers = new Map<string, string>()
  for (const field of fields) {
    const [, name = '', value = ''] = /^([!-9;-~]+): (.*)$/.exec(field) ?? []
    if (!name || headers.has(name.toLowerCase())) throw new Error(`bad or doubled header field: ${field}`)
    headers.set(name.toLowerCase(), value)
  }
  const stated = headers.get('content-length')
  if (status >= 200 && (stated === undefined || headers.has('transfer-encoding')))
    throw new Error(`unclear length: ${head}`)
  const length = end + 4 + (method === 'HEAD' || status < 200 ? 0 : Number(stated))
  if (bytes.length < length) return undefined
  return { answer: { status, head, headers, body: bytes.subarray(end + 4, length).toString() }, length }
}

/** Expects an answer that the CCG plug-in takes for a failure: length 0 and nothing else. */
export function expectBare(answer: Answer, status: number, code: string): void {
  expect(answer).toMatchObject({ status, body: '' })
  expect(answer.headers.get('content-length')).toBe('0')
  expect(answer.headers.has('content-type')).toBe(false)
  expect(answer.headers.has('transfer-encoding')).toBe(false)
  expect(answer.headers.get('gmsa-error')).toBe(code)
}

/** Opens a connection, sends these bytes, and gives all that comes until the server closes. Refused handshake: nothing. */
export async function sendAndClose(rig: Rig, bytes: string, options?: WireOptions): Promise<string> {
  using wire = await openWire(rig, options).catch(() => undefined)
  if (!wire) return ''
  wire.write(bytes)
  return await wire.rest()
}

/** The value of the sample that has all of these labels; 0 when there is none. */
export async function metric(rig: Rig, name: string, labels: Record<string, string> = {}): Promise<number> {
  const { body } = await rig.admin('/metrics')
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`)
  return body
    .split('\n')
    .filter(
      (line) => new RegExp(`^gmsa_provider_${name}[{ ]`).test(line) && wanted.every((each) => line.includes(each)),
    )
    .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
}

/** Replaces a file in one step: whoever looks in between must not meet half of it. */
export async function put(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text, { mode: 0o600 })
  await rename(`${path}.new`, path)
}

/** Waits until `ready` holds, looking every few milliseconds. */
export async function eventually(ready: () => boolean | Promise<boolean>, what: string, ms = PATIENCE): Promise<void> {
  const deadline = performance.now() + ms
  while (!(await ready())) {
    if (performance.now() > deadline) throw new Error(`in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** The system's clock, whose time of day can be moved. */
export function movableClock(): Clock & { moveTo(time: number): void } {
  let offset = 0
  return {
    ...systemClock,
    now: () => Date.now() + offset,
    moveTo(time) {
      offset = time - Date.now()
    },
  }
}

type ReadCredential = (account: string, signal: AbortSignal) => Promise<MaterialOf<'credential'>>

/** A store of credentials in memory, which counts what it is asked. */
export function makeStore(read: ReadCredential = async () => credential()): Provider & { readonly asked: string[] } {
  const asked: string[] = []
  return {
    name: 'local',
    asked,
    reads: {
      credential(account, signal) {
        asked.push(account.name)
        return read(account.name, signal)
      },
    },
    async probe() {},
    async [Symbol.asyncDispose]() {},
  }
}

export function credential(): MaterialOf<'credential'> {
  const { username, password, domainName } = CREDENTIAL
  return { kind: 'credential', username, domainName, password: Secret.fromText(password) }
}

/** Runs a program to its end, at most ten seconds; `input` is its standard input, which is then closed. */
export async function run(
  program: string,
  args: readonly string[],
  input = '',
): Promise<{ code: number; text: string }> {
  const child = spawn(program, args, { timeout: 10_000, killSignal: 'SIGKILL' })
  let text = ''
  child.stdout.on('data', (chunk) => {
    text += chunk
  })
  child.stderr.on('data', (chunk) => {
    text += chunk
  })
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  const [code] = await once(child, 'close')
  return { code: code ?? -1, text }
}
