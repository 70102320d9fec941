import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import type { SecretsManagerClient } from '@aws-sdk/client-secrets-manager'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { motoServer } from '../../scripts/setup-python.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { awsSecretsManager } from '../../src/providers/aws-secrets-manager/index.ts'
import type { Provider } from '../../src/providers/provider.ts'
import { failure, type ProviderFixture, providerContract } from '../contract/provider-contract.ts'
import { freePort } from '../lab/free-port.ts'
import { needs } from '../lab/skip.ts'
import { stubAwsEnvironment } from '../providers/aws-secrets-manager/stand-in.ts'

const REGION = 'eu-west-1'

let moto: ChildProcess
let motoPort = 0

async function startMoto(): Promise<void> {
  motoPort = await freePort()
  moto = spawn(motoServer, ['-H', '127.0.0.1', '-p', String(motoPort)], { stdio: 'ignore' })
  await vi.waitFor(() => reset(), { timeout: 60_000, interval: 200 })
}

async function reset(): Promise<void> {
  const url = `http://127.0.0.1:${motoPort}/moto-api/reset`
  const { ok } = await fetch(url, { method: 'POST', signal: AbortSignal.timeout(5_000) })
  if (!ok) throw new Error('moto does not reset')
}

/** Stands before moto, and can be closed or held up. */
interface Relay extends AsyncDisposable {
  readonly address: string
  mode: 'pass' | 'hold'
  stop(): Promise<void>
  start(): Promise<void>
}

async function startRelay(): Promise<Relay> {
  const sockets = new Set<Socket>()
  let server: Server
  let port = 0
  const relay: Relay = {
    get address() {
      return `http://127.0.0.1:${port}`
    },
    mode: 'pass',
    async start() {
      server = createServer((socket) => {
        const far = connect(motoPort, '127.0.0.1')
        for (const [one, other] of [
          [socket, far],
          [far, socket],
        ] as const) {
          sockets.add(one)
          one.on('data', (bytes) => void (relay.mode === 'pass' && other.write(bytes)))
          one
            .on('error', () => {})
            .on('close', () => {
              sockets.delete(one)
              other.destroy()
            })
        }
      }).listen(port, '127.0.0.1')
      await once(server, 'listening')
      port = (server.address() as AddressInfo).port
    },
    async stop() {
      if (!server.listening) return
      server.close()
      for (const socket of sockets) socket.destroy()
      await once(server, 'close')
    },
    [Symbol.asyncDispose]: () => relay.stop(),
  }
  await relay.start()
  return relay
}

/** What a person does with the command line of AWS, straight to moto. */
async function asAdministrator<T>(work: (client: SecretsManagerClient, sdk: Sdk) => Promise<T>): Promise<T> {
  const sdk = await import('@aws-sdk/client-secrets-manager')
  const client = new sdk.SecretsManagerClient({ region: REGION, endpoint: `http://127.0.0.1:${motoPort}` })
  try {
    return await work(client, sdk)
  } finally {
    client.destroy()
  }
}
type Sdk = typeof import('@aws-sdk/client-secrets-manager')
type Value = { readonly SecretString: string } | { readonly SecretBinary: Uint8Array }

const put = (name: string, value: Value) =>
  asAdministrator(async (client, sdk) => {
    const { VersionId } = await client
      .send(new sdk.PutSecretValueCommand({ SecretId: name, ...value }))
      .catch(() => client.send(new sdk.CreateSecretCommand({ Name: name, ...value })))
    return VersionId ?? ''
  })
const remove = (name: string, more: object) =>
  asAdministrator(
    async (client, sdk) => void (await client.send(new sdk.DeleteSecretCommand({ SecretId: name, ...more }))),
  )

async function motoFixture(): Promise<ProviderFixture> {
  await reset()
  stubAwsEnvironment({ AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test' })
  const relay = await startRelay()
  return {
    open: (context) => awsSecretsManager.open('asm', { region: REGION, endpoint: relay.address }, context),
    put: async (secret, members) => void (await put(secret, { SecretString: JSON.stringify(members) })),
    async putBytes(secret, password) {
      const parts = ['{"username":"svc","domainName":"ad.test","password":"', password, '"}']
      await put(secret, { SecretBinary: Buffer.concat(parts.map((part) => Buffer.from(part))) })
    },
    remove: (secret) => remove(secret, { ForceDeleteWithoutRecovery: true }),
    makeUnreachable: () => relay.stop(),
    async hang() {
      relay.mode = 'hold'
    },
    async restore() {
      relay.mode = 'pass'
      await relay.stop()
      await relay.start()
    },
    async [Symbol.asyncDispose]() {
      vi.unstubAllEnvs()
      await relay[Symbol.asyncDispose]()
    },
  }
}

describe.skipIf(!needs('moto'))('AWS Secrets Manager as moto emulates it', () => {
  beforeAll(startMoto)
  afterAll(async () => {
    const ended = once(moto, 'exit')
    moto.kill('SIGKILL')
    await ended
  })

  providerContract('aws-secrets-manager (moto)', motoFixture)

  describe('versions and states:', () => {
    let fixture: ProviderFixture
    let provider: Provider
    beforeEach(async () => {
      fixture = await motoFixture()
      provider = await fixture.open({ log: silentLog, clock: systemClock })
    })
    afterEach(async () => {
      await provider[Symbol.asyncDispose]()
      await fixture[Symbol.asyncDispose]()
    })

    async function passwordOf(which: 'reads' | 'previous', options = {}): Promise<string | undefined> {
      const read = which === 'reads' ? provider.reads.credential : provider.readPrevious
      const credential = await read?.({ name: 'one', secret: 'one', options }, AbortSignal.timeout(10_000))
      return credential?.password.revealText()
    }

    test('the current, the one before and a pinned one', async () => {
      const version = await put('one', { SecretString: 'AD\\svc:first' })
      await failure(passwordOf('previous'), 'ACCOUNT_NOT_FOUND')
      await put('one', { SecretString: 'AD\\svc:second' })
      expect(await passwordOf('reads')).toBe('second')
      expect(await passwordOf('previous')).toBe('first')
      expect(await passwordOf('reads', { version })).toBe('first')
    })

    test('one scheduled for deletion is absent', async () => {
      await put('one', { SecretString: 'AD\\svc:first' })
      await remove('one', { RecoveryWindowInDays: 7 })
      expect((await failure(passwordOf('reads'), 'ACCOUNT_NOT_FOUND')).message).toContain('scheduled for deletion')
    })
  })
})
