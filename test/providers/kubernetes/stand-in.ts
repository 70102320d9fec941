import type { TestCa, TestCertificate } from '../../fakes/pki.ts'
import { type Reply, type SeenRequest, type StandIn, startStandIn } from '../../fakes/stand-in.ts'

/** Who may get which Secrets: a Role with the verb `get`, with or without `resourceNames`, and a RoleBinding. */
export interface Subject {
  readonly user: string
  /** Of `namespace/name`. */
  readonly mayGet: Pick<ReadonlySet<string>, 'has'>
}

/** A stand-in for the API server, as far as the Kubernetes API reference says what a GET of a Secret meets. */
export interface ApiServer extends StandIn {
  /** Who shows this bearer token. */
  readonly tokens: Map<string, Subject>
  /** Who shows a certificate with this serial. */
  readonly certificates: Map<string, Subject>
  /** By `namespace/name`: the members of `data`, in bytes or as text. */
  readonly secrets: Map<string, Readonly<Record<string, string | Uint8Array>>>
  /** Whether `/version` is open to everybody who is known, as it is by default. */
  publicInfo: boolean
}

const ANONYMOUS: Subject = { user: 'system:anonymous', mayGet: new Set() }
const SECRET_PATH = /^\/api\/v1\/namespaces\/([^/?]+)\/secrets\/([^/?]+)$/

export async function startApiServer({ clientCa }: { clientCa?: TestCa } = {}): Promise<ApiServer> {
  const tokens: ApiServer['tokens'] = new Map()
  const certificates: ApiServer['certificates'] = new Map()
  const secrets: ApiServer['secrets'] = new Map()
  const server = await startStandIn((request) => answer(request), clientCa ? { clientCa } : {})
  const api: ApiServer = Object.create(server, {
    tokens: { value: tokens },
    certificates: { value: certificates },
    secrets: { value: secrets },
    publicInfo: { value: true, writable: true },
  })

  /** A token or certificate that is not known is refused; without either one is anonymous, as in most clusters. */
  function authenticate({ headers, clientSerial }: SeenRequest): Subject | undefined {
    if (headers['authorization'] !== undefined) {
      const [, token = ''] = /^Bearer (\S+)$/.exec(String(headers['authorization'])) ?? []
      return tokens.get(token)
    }
    return clientSerial === undefined ? ANONYMOUS : certificates.get(clientSerial)
  }

  function answer(request: SeenRequest): Reply {
    const subject = authenticate(request)
    if (!subject) return failure(401, 'Unauthorized', 'Unauthorized')
    const { method, path } = request
    if (method === 'GET' && path === '/version') return version(subject)
    const [, namespace = '', name = ''] = SECRET_PATH.exec(path) ?? []
    if (method !== 'GET' || name === '') return forbiddenPath(subject, method, path)
    // Rights before existence: who may not read a name does not learn whether it is there.
    const details = { name, kind: 'secrets' }
    if (!subject.mayGet.has(`${namespace}/${name}`)) {
      const right = `cannot get resource "secrets" in API group "" in the namespace "${namespace}"`
      const message = `secrets "${name}" is forbidden: User "${subject.user}" ${right}`
      return failure(403, 'Forbidden', message, details)
    }
    const data = secrets.get(`${namespace}/${name}`)
    if (!data) return failure(404, 'NotFound', `secrets "${name}" not found`, details)
    return { status: 200, body: secretBody(namespace, name, data) }
  }

  function version(subject: Subject): Reply {
    if (!api.publicInfo) return forbiddenPath(subject, 'GET', '/version')
    return { status: 200, body: { major: '1', minor: '34', gitVersion: 'v1.34.0', platform: 'linux/amd64' } }
  }

  return api
}

function forbiddenPath({ user }: Subject, method: string, path: string): Reply {
  const verb = method === 'GET' ? 'get' : method.toLowerCase()
  return failure(403, 'Forbidden', `forbidden: User "${user}" cannot ${verb} path "${path}"`)
}

/** An answer of kind Status, as the API server words its refusals. `retryAfter`: seconds. */
export function failure(
  code: number,
  reason: string,
  message: string,
  details: Readonly<Record<string, unknown>> = {},
  retryAfter?: number,
): Reply {
  const wait = retryAfter === undefined ? {} : { retryAfterSeconds: retryAfter }
  return {
    status: code,
    ...(retryAfter !== undefined && { headers: { 'retry-after': String(retryAfter) } }),
    body: {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message,
      reason,
      details: { ...details, ...wait },
      code,
    },
  }
}

function secretBody(namespace: string, name: string, members: Readonly<Record<string, string | Uint8Array>>): object {
  const data = Object.entries(members).map(([key, value]) => [key, Buffer.from(value).toString('base64')] as const)
  return {
    kind: 'Secret',
    apiVersion: 'v1',
    metadata: {
      name,
      namespace,
      uid: '7c0a9c9e-0d0b-4d42-9c6a-6f1f7d3b1c55',
      resourceVersion: '4711',
      creationTimestamp: '2026-11-23T10:00:00Z',
    },
    // An empty map is left out of the JSON.
    ...(data.length > 0 && { data: Object.fromEntries(data) }),
    type: 'Opaque',
  }
}

/** A kubeconfig as `kubectl config` writes it, in JSON, which is YAML too. */
export function kubeconfigText(
  cluster: Readonly<Record<string, unknown>>,
  user: Readonly<Record<string, unknown>>,
): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'prod', cluster }],
    users: [{ name: 'reader', user }],
    contexts: [{ name: 'prod-reader', context: { cluster: 'prod', user: 'reader', namespace: 'elsewhere' } }],
    'current-context': 'prod-reader',
  })
}

const base64 = (text: string) => Buffer.from(text).toString('base64')

/** Of a user who logs on with a certificate that stands in the kubeconfig. */
export function certificateKubeconfig(server: StandIn, { certificate, key }: TestCertificate): string {
  return kubeconfigText(
    { server: server.address, 'certificate-authority-data': base64(server.ca) },
    { 'client-certificate-data': base64(certificate), 'client-key-data': base64(key) },
  )
}
