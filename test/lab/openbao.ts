import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { openBao } from '../../scripts/setup-python.ts'
import { makeCa } from '../fakes/pki.ts'
import { freePort } from './free-port.ts'

/** A real OpenBao on loopback, with TLS, in memory; set up and unsealed. Stopped by its PID. */
export interface OpenBao extends AsyncDisposable {
  readonly address: string
  /** PEM of the CA of its certificate. */
  readonly ca: string
  readonly pid: number
  /** A request of the operator's, below /v1; `data` of the answer. Throws where it is refused. */
  admin(method: string, path: string, body?: object, namespace?: string): Promise<Record<string, unknown>>
  seal(): Promise<void>
  unseal(): Promise<void>
}

interface Answer {
  readonly status: number
  readonly body: Record<string, unknown>
}

export async function startOpenBao(): Promise<OpenBao> {
  const directory = await mkdtemp(join(tmpdir(), 'gmsa-openbao-'))
  const ca = await makeCa({ name: 'OpenBao CA' })
  const leaf = await ca.issueServer()
  await writeFile(join(directory, 'tls.crt'), leaf.certificate)
  await writeFile(join(directory, 'tls.key'), leaf.key, { mode: 0o600 })
  const port = await freePort()
  // JSON is HCL. The port after its own would be for a cluster that there is not: any will do.
  const config = {
    storage: { inmem: {} },
    listener: {
      tcp: {
        address: `127.0.0.1:${port}`,
        cluster_address: '127.0.0.1:0',
        tls_cert_file: join(directory, 'tls.crt'),
        tls_key_file: join(directory, 'tls.key'),
      },
    },
    api_addr: `https://localhost:${port}`,
  }
  await writeFile(join(directory, 'config.json'), JSON.stringify(config))
  const log = join(directory, 'log')
  const script = `exec "$0" server -config "$1" >"$2" 2>&1`
  const child = spawn('/bin/sh', ['-c', script, openBao, join(directory, 'config.json'), log], {
    stdio: 'ignore',
  })
  const ended = once(child, 'exit')
  let token = ''

  function ask(method: string, path: string, body?: object, namespace?: string): Promise<Answer> {
    const headers = { 'x-vault-token': token, ...(namespace && { 'x-vault-namespace': namespace }) }
    return new Promise((resolve, reject) => {
      const options = {
        method,
        host: 'localhost',
        port,
        path: `/v1/${path}`,
        ca: ca.certificate,
        headers,
        agent: false,
      }
      const sent = request(options, (response) => void readAnswer(response).then(resolve, reject))
      sent.on('error', reject)
      sent.end(body && JSON.stringify(body))
    })
  }

  async function admin(...args: Parameters<typeof ask>): Promise<Record<string, unknown>> {
    const { status, body } = await ask(...args)
    if (status >= 300) throw new Error(`${args[0]} ${args[1]}: ${status} ${JSON.stringify(body)}`)
    return (body['data'] ?? body) as Record<string, unknown>
  }

  async function stop(): Promise<void> {
    child.kill('SIGCONT')
    child.kill('SIGKILL')
    await ended
    await rm(directory, { recursive: true, force: true })
  }

  try {
    for (let tries = 0; (await ask('GET', 'sys/health').catch(() => undefined)) === undefined; tries += 1) {
      if (tries === 100 || child.exitCode !== null) throw new Error(await readFile(log, 'utf8'))
      await setTimeout(200)
    }
    const { keys_base64: keys, root_token: root } = await admin('PUT', 'sys/init', {
      secret_shares: 1,
      secret_threshold: 1,
    })
    token = String(root)
    const unseal = async () => {
      await admin('PUT', 'sys/unseal', { key: (keys as string[])[0] })
      for (let tries = 0; (await ask('GET', 'sys/health')).status !== 200 && tries < 100; tries += 1)
        await setTimeout(50)
    }
    await unseal()
    return {
      address: `https://localhost:${port}`,
      ca: ca.certificate,
      pid: child.pid ?? 0,
      admin,
      seal: async () => void (await admin('PUT', 'sys/seal')),
      unseal,
      [Symbol.asyncDispose]: stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

async function readAnswer(response: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk)
  const text = Buffer.concat(chunks).toString()
  return { status: response.statusCode ?? 0, body: text === '' ? {} : JSON.parse(text) }
}
