/**
 * npm run demo [-- --keep]: certificates, a store, the real server, and what clients see of it. Every step prints the
 * command line that does the same by hand; with --keep the server stays up so that they can be pasted.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest, type RequestOptions } from 'node:https'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Secret } from '../src/base/secret.ts'
import { formatManagedPassword } from '../src/gmsa/managed-password.ts'

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)))
const CLI = ['--max-semi-space-size=2', join(ROOT, 'src/cli/main.ts')]
const START_TIMEOUT = 20_000

interface Server {
  readonly process: ChildProcess
  readonly port: number
  readonly adminPort: number
}

interface Reply {
  readonly status: number
  readonly headers: Record<string, string | string[] | undefined>
  readonly body: string
}

let count = 0

function step(title: string): void {
  count += 1
  console.log(`\n${count}. ${title}`)
}

function show(command: string, result: string): void {
  console.log(`   $ ${command}`)
  for (const line of result.trimEnd().split('\n')) console.log(`   ${line}`)
}

async function runCli(...args: string[]): Promise<string> {
  const child = spawn(process.execPath, [...CLI, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`${args[0]} ended with ${code}`)
  return output
}

/** Starts `run` and waits until it says where it listens. */
async function startServer(config: string): Promise<Server> {
  const child = spawn(process.execPath, [...CLI, 'run', '--config', config], { stdio: ['ignore', 'pipe', 'inherit'] })
  const late = setTimeout(() => child.kill('SIGKILL'), START_TIMEOUT)
  for await (const line of createInterface({ input: child.stdout })) {
    const { msg, port, admin } = JSON.parse(line) as { msg?: string; port: number; admin: { port: number } }
    if (msg !== 'listening') continue
    clearTimeout(late)
    child.stdout.resume()
    return { process: child, port, adminPort: admin.port }
  }
  throw new Error('the server did not start')
}

function fetchOnce(
  options: RequestOptions,
  send: typeof httpRequest | typeof httpsRequest = httpsRequest,
): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>()
  const outgoing = send({ ...options, agent: false }, (response) => {
    let body = ''
    response.setEncoding('utf8')
    response.on('data', (chunk: string) => {
      body += chunk
    })
    response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }))
  })
  outgoing.setTimeout(10_000, () => outgoing.destroy(new Error('no answer within 10 s')))
  outgoing.on('error', reject)
  outgoing.end()
  return promise
}

async function prepare(directory: string): Promise<string> {
  step('Development certificates: a CA, a server and a client, for this machine alone')
  show(`npm run -s cli -- certs ${directory}/certs`, await runCli('certs', join(directory, 'certs')))
  const secrets = join(directory, 'secrets')
  await mkdir(secrets, { mode: 0o700 })
  const credential = { username: 'svc-ccg', password: 'correct horse battery staple', domainName: 'contoso.com' }
  await writeFile(join(secrets, 'contoso-ccg.json'), `${JSON.stringify(credential)}\n`, { mode: 0o600 })
  await writeFile(join(secrets, 'web01.json'), `${JSON.stringify(sampleRecord())}\n`, { mode: 0o600 })
  const config = join(directory, 'gmsa-account-provider.yaml')
  const text = `listen: { port: 0 }
admin: { port: 0 }
tls: { certificate: certs/server/tls.crt, key: certs/server/tls.key, clientCa: certs/ca/ca.crt }
providers:
  local: { type: file, directory: secrets }
accounts:
  contoso-ccg: { provider: local } # an impersonation credential
  web01: { provider: local } # a gMSA's managed password, as a directory gives it
clients:
  - match: { uri: 'spiffe://localhost/client/demo' }
    allow: [credential, keytab]
    accounts: [contoso-ccg, web01]
shutdown: { drainDelay: 0s }
`
  await writeFile(config, text)
  step('A file store with an impersonation credential and a gMSA, and the configuration')
  show(`cat ${config}`, text)
  show(`npm run -s cli -- check --config ${config}`, await runCli('check', '--config', config))
  return config
}

/**
 * A gMSA as a record: a managed password of random units, as domains make them, under key version 3. With a real
 * directory the service reads this itself.
 */
function sampleRecord() {
  const password = new Secret(randomBytes(256).map((byte) => byte || 1))
  const [hour, tick] = [36_000_000_000n, 10_000_000n]
  const blob = formatManagedPassword({
    current: password,
    queryInterval: 15n * hour,
    unchangedInterval: 15n * hour - 300n * tick,
  })
  return {
    managedPassword: blob.toString('base64'),
    samAccountName: 'web01$',
    domain: 'contoso.com',
    servicePrincipalNames: ['HTTP/web01.contoso.com'],
    kvno: 3,
  }
}

/** What a Linux sidecar does. */
async function fetchKeytab(directory: string, { port }: Server): Promise<void> {
  step('A Linux sidecar fetches the keytab of a gMSA, and lists it')
  const certs = join(directory, 'certs')
  const file = join(directory, 'web01.keytab')
  const identity = [
    '--cert',
    `${certs}/client/tls.crt`,
    '--key',
    `${certs}/client/tls.key`,
    '--ca',
    `${certs}/ca/ca.crt`,
  ]
  const get = ['keytab', 'get', 'web01', '-o', file, '--server', `https://localhost:${port}`, ...identity]
  show(`npm run -s cli -- ${get.join(' ')}`, await runCli(...get))
  const list = ['keytab', 'list', file]
  const listed = await runCli(...list)
  expect(listed.includes('HTTP/web01.contoso.com@CONTOSO.COM'), 'the keytab lacks its principal')
  show(`npm run -s cli -- ${list.join(' ')}`, listed)
}

/** What clients see; throws when it is not what the documentation promises. */
async function visit(directory: string, server: Server): Promise<void> {
  const certs = join(directory, 'certs')
  const [ca, cert, key] = await Promise.all(
    ['ca/ca.crt', 'client/tls.crt', 'client/tls.key'].map((name) => readFile(join(certs, name))),
  )
  const target = { host: '127.0.0.1', port: server.port, servername: 'localhost', path: '/provider', ca }
  const headers = { object: 'contoso-ccg' }
  const url = `https://localhost:${server.port}`
  const identity = `--cert ${certs}/client/tls.crt --key ${certs}/client/tls.key`

  step('The CCG plug-in on a Windows node asks for the credential, with its certificate')
  const answer = await fetchOnce({ ...target, headers, cert, key })
  expect(answer.status === 200, `expected 200, got ${answer.status}`)
  show(`curl -s --cacert ${certs}/ca/ca.crt ${identity} -H 'object: contoso-ccg' ${url}/provider`, answer.body)

  await fetchKeytab(directory, server)

  step('An account that this client may not read: refused, and the answer has no body')
  const absent = await fetchOnce({ ...target, headers: { object: 'somebody-else' }, cert, key })
  expect(absent.status === 404 && absent.body === '', `expected 404 without body, got ${absent.status}`)
  show(
    `curl -si --cacert ${certs}/ca/ca.crt ${identity} -H 'object: somebody-else' ${url}/provider`,
    `HTTP/1.1 ${absent.status}\ngmsa-error: ${absent.headers['gmsa-error']}\ncontent-length: ${absent.headers['content-length']}`,
  )

  step('Somebody without a certificate asks: TLS refuses before there is a request')
  const refusal = await fetchOnce({ ...target, headers }).catch((error: NodeJS.ErrnoException) => error)
  expect(refusal instanceof Error, 'a client without certificate was answered')
  show(
    `curl -sS --cacert ${certs}/ca/ca.crt -H 'object: contoso-ccg' ${url}/provider`,
    `refused: ${refusal instanceof Error ? ((refusal as NodeJS.ErrnoException).code ?? refusal.message) : ''}`,
  )

  step('Prometheus scrapes the metrics, on a listener of their own')
  const admin = { host: '127.0.0.1', port: server.adminPort }
  const metrics = await fetchOnce({ ...admin, path: '/metrics' }, httpRequest)
  const counted = metrics.body
    .split('\n')
    .filter((line) => /^gmsa_provider_(requests_total|tls_rejected_total|provider_up)/.test(line))
  expect(counted.length >= 3, 'the metrics do not show what happened')
  show(
    `curl -s http://127.0.0.1:${server.adminPort}/metrics | grep -E '^gmsa_provider_(requests|tls|provider_up)'`,
    counted.join('\n'),
  )
}

function expect(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise)
}

async function main(keep: boolean): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'gmsa-demo-'))
  let server: Server | undefined
  try {
    const config = await prepare(directory)
    step('The server')
    server = await startServer(config)
    const said = `listening on 127.0.0.1 and ::1, port ${server.port}; health and metrics on 127.0.0.1 port ${server.adminPort}`
    show(`npm run -s cli -- run --config ${config}`, said)
    await visit(directory, server)
    if (keep) {
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => server?.process.kill(signal))
      console.log('\nStill running: paste the lines above into another terminal. Ctrl-C ends it.')
      await once(server.process, 'exit')
      return
    }
    server.process.kill('SIGTERM')
    const [code] = await once(server.process, 'exit')
    expect(code === 0, `the server ended with ${code}`)
    console.log('\nStopped. `npm run demo -- --keep` leaves it running, to paste the lines above.')
  } finally {
    server?.process.kill('SIGKILL')
    await rm(directory, { recursive: true, force: true })
  }
}

await main(process.argv.includes('--keep'))
