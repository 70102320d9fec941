import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openKubernetes } from '../../../src/providers/kubernetes/open.ts'
import { type Outage, type OutageFixture, RETRY_AFTER } from '../../contract/outages.ts'
import { makeCa } from '../../fakes/pki.ts'
import { type ApiServer, certificateKubeconfig, failure, type Subject, startApiServer } from './stand-in.ts'

export const NAMESPACE = 'contoso-ad'
export const TOKEN = 'eyJhbGciOiJSUzI1NiJ9.first.pa55-Kanari'
/** Names that {@link reader} may get. */
const NAMES = ['one', 'two', 'three', 'broken']

/** A service account that may get these Secrets of {@link NAMESPACE}, and no more. */
export function reader(names: readonly string[] = NAMES): Subject {
  const mayGet = new Set(names.map((name) => `${NAMESPACE}/${name}`))
  return { user: `system:serviceaccount:${NAMESPACE}:gmsa-account-provider`, mayGet }
}

/** What Kubernetes mounts into a pod and puts into its environment. */
export interface Pod extends AsyncDisposable {
  readonly server: ApiServer
  readonly folder: string
  readonly env: NodeJS.ProcessEnv
  writeToken(token: string): Promise<void>
  writeCa(pem: string): Promise<void>
}

export async function makePod(): Promise<Pod> {
  const server = await startApiServer()
  const folder = await mkdtemp(join(tmpdir(), 'gmsa-kubernetes-'))
  server.tokens.set(TOKEN, reader())
  const pod: Pod = {
    server,
    folder,
    env: { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: String(server.port) },
    writeToken: (token) => writeFile(join(folder, 'token'), token, { mode: 0o600 }),
    writeCa: (pem) => writeFile(join(folder, 'ca.crt'), pem),
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    },
  }
  await pod.writeToken(TOKEN)
  await pod.writeCa(server.ca)
  return pod
}

/** The provider in a pod, for the contract and the outages. */
export async function podFixture(): Promise<OutageFixture> {
  const pod = await makePod()
  let token = TOKEN
  return {
    ...storeOf(pod.server, {
      revoke: () => void pod.server.tokens.delete(token),
      async renew() {
        pod.server.tokens.delete(token)
        token = `${token}x`
        pod.server.tokens.set(token, reader())
        await pod.writeToken(token)
      },
      limit: (names) => void pod.server.tokens.set(token, reader(names)),
    }),
    open: (context) =>
      openKubernetes('cluster', { namespace: NAMESPACE }, context, { env: pod.env, serviceAccount: pod.folder }),
    rotateCa: async () => pod.writeCa(await pod.server.rotateCa()),
    [Symbol.asyncDispose]: () => pod[Symbol.asyncDispose](),
  }
}

/** The same from outside: a kubeconfig with a client certificate. */
export async function kubeconfigFixture(): Promise<OutageFixture> {
  const clientCa = await makeCa({ name: 'kubernetes' })
  const server = await startApiServer({ clientCa })
  const folder = await mkdtemp(join(tmpdir(), 'gmsa-kubeconfig-'))
  const kubeconfig = join(folder, 'config')
  let shown = await clientCa.issue()
  const write = () => writeFile(kubeconfig, certificateKubeconfig(server, shown), { mode: 0o600 })
  const allow = (names?: readonly string[]) => void server.certificates.set(shown.serial, reader(names))
  await write()
  allow()
  return {
    ...storeOf(server, {
      revoke: () => void server.certificates.delete(shown.serial),
      async renew() {
        server.certificates.delete(shown.serial)
        shown = await clientCa.issue()
        await write()
        allow()
      },
      limit: allow,
    }),
    open: (context) => openKubernetes('cluster', { namespace: NAMESPACE, kubeconfig }, context, { env: {} }),
    async rotateCa() {
      await server.rotateCa()
      await write()
    },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

interface Identity {
  revoke(): void
  /** Another one, where the provider has it from. */
  renew(): Promise<void>
  /** Which names it may get; absent: all. */
  limit(names?: readonly string[]): void
}

type Store = Omit<OutageFixture, 'open' | 'rotateCa' | typeof Symbol.asyncDispose>

function storeOf(server: ApiServer, identity: Identity): Store {
  const key = (name: string) => `${NAMESPACE}/${name}`
  const status = (code: number, reason: string, retryAfter?: number) => () =>
    server.fail(failure(code, reason, 'no', {}, retryAfter))
  const outages: Readonly<Record<Outage, () => void | Promise<void>>> = {
    forbidden: () => identity.limit([]),
    'token-expired': () => identity.renew(),
    'token-revoked': () => identity.revoke(),
    throttled: status(429, 'TooManyRequests', RETRY_AFTER),
    'server-error': status(500, 'InternalError'),
    refused: () => server.stop(),
    hang: () => server.fail('hang'),
    truncated: () => server.fail('truncated'),
    'not-json': () => server.fail('not-json'),
    oversized: () => server.fail('oversized'),
    'wrong-name': () => server.show('wrong-name'),
    'unknown-ca': () => server.show('other-ca'),
  }
  return {
    async put(secret, members) {
      const texts = Object.entries(members).map(([name, value]) => [name, String(value)] as const)
      server.secrets.set(key(secret), Object.fromEntries(texts))
    },
    async putBytes(secret, password) {
      server.secrets.set(key(secret), { username: 'svc', password, domainName: 'ad.test' })
    },
    remove: async (secret) => void server.secrets.delete(key(secret)),
    makeUnreachable: () => server.stop(),
    hang: async () => server.fail('hang'),
    fail: async (how) => outages[how](),
    async restore() {
      await server.restore()
      identity.limit()
    },
  }
}
