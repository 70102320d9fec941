import type { Clock } from '../../../src/base/clock.ts'
import { membersOf } from '../../../src/providers/http.ts'
import type { TestCa } from '../../fakes/pki.ts'
import { type Reply, type SeenRequest, type StandIn, startStandIn } from '../../fakes/stand-in.ts'

/**
 * A stand-in for Vault and OpenBao, written from their published HTTP API; its words and bodies are those that
 * OpenBao 2.7 was seen to send. It serves one KV mount, four auth methods and the token's own paths, and is strict about
 * headers: what it should not have been sent ends up in `violations`.
 */
export interface FakeVault extends AsyncDisposable {
  readonly server: StandIn
  /** What the log-ins accept. */
  readonly accepts: Accepts
  /** How tokens are made from now on. */
  readonly issues: Issues
  readonly tokens: ReadonlyMap<string, Token>
  /** Log-ins that gave a token or were refused. */
  logIns(): number
  /** Requests of a path below /v1, whatever came of them. */
  requests(path: string): number
  /** Writes the next version; returns its number. */
  put(secret: string, data: Readonly<Record<string, unknown>>): number
  /** All of it, as `kv metadata delete` does. */
  remove(secret: string): void
  deleteVersion(secret: string, version: number): void
  destroyVersion(secret: string, version: number): void
  /** A token that nobody logged in for, as an operator makes one. */
  issue(): string
  revokeAll(): void
  /** Forbids what starts with this path below /v1 by policy; nothing where absent. */
  forbid(path?: string): void
  /** Serves nothing, and this is the status of its health: 503 is sealed. Absent: serves again. */
  ail(health?: number): void
  readonly violations: readonly string[]
}

interface Accepts {
  kubernetes: { role: string; jwts: string[] }
  jwt: { role: string; jwts: string[] }
  approle: { roleId: string; secretIds: string[] }
  cert: { name: string; serials: string[] }
}

interface Issues {
  /** In seconds; 0 for tokens that never end. */
  ttl: number
  /** The greatest age, in seconds. */
  maxTtl: number
  renewable: boolean
  batch: boolean
  /** How many requests a token lasts; 0 for any number. */
  uses: number
}

export interface Token {
  readonly born: number
  ends: number
  revoked: boolean
  renewable: boolean
  batch: boolean
  usesLeft: number
}

interface Version {
  readonly data: Readonly<Record<string, unknown>>
  deleted: string
  destroyed: boolean
}

export interface FakeVaultOptions {
  /** Absent: 2. */
  readonly kvVersion?: 1 | 2
  /** Absent: `kv`. */
  readonly mount?: string
  readonly namespace?: string
  readonly clock: Pick<Clock, 'monotonic'>
  readonly clientCa?: TestCa
  /** Keeps its versions secret: the path that tells which engine is mounted is forbidden. */
  readonly hidesMounts?: boolean
  /** What is said to be mounted; absent: the KV engine. */
  readonly engine?: string
}

const TOKEN_PATHS = ['auth/token/lookup-self', 'auth/token/renew-self', 'auth/token/revoke-self']
const PASSED = { request_id: 'r', lease_id: '', renewable: false, lease_duration: 0, wrap_info: null, warnings: null }

const ok = (members: object): Reply => ({ status: 200, body: { ...PASSED, data: null, auth: null, ...members } })
const refuse = (status: number, ...errors: string[]): Reply => ({ status, body: { errors } })
/** A token that is not known, and one whose policies do not reach: the server words them differently. */
const UNKNOWN = refuse(403, 'permission denied')
const NOT_ALLOWED = refuse(403, '1 error occurred:\n\t* permission denied\n\n')

export async function startFakeVault(options: FakeVaultOptions): Promise<FakeVault> {
  const { kvVersion = 2, mount = 'kv', namespace, clock, clientCa, hidesMounts = false, engine = 'kv' } = options
  const accepts: Accepts = {
    kubernetes: { role: 'gmsa', jwts: ['jwt-1'] },
    jwt: { role: 'gmsa', jwts: ['jwt-1'] },
    approle: { roleId: 'role-1', secretIds: ['secret-1'] },
    cert: { name: 'gmsa', serials: [] },
  }
  const issues: Issues = { ttl: 3600, maxTtl: 86_400, renewable: true, batch: false, uses: 0 }
  const tokens = new Map<string, Token>()
  const secrets = new Map<string, Version[]>()
  const violations: string[] = []
  let forbidden: string | undefined
  let ailing: number | undefined
  let tries = 0

  const seconds = () => clock.monotonic() / 1000
  const alive = (token: Token) => !token.revoked && seconds() < token.ends && token.usesLeft !== 0

  function issue(): string {
    const { ttl, renewable, batch, uses } = issues
    const name = `${batch ? 'b' : 's'}.pa55-token-Kanari-${tokens.size + 1}`
    const ends = ttl === 0 ? Number.POSITIVE_INFINITY : seconds() + ttl
    tokens.set(name, { born: seconds(), ends, revoked: false, renewable, batch, usesLeft: uses || -1 })
    return name
  }

  const leaseOf = (token: Token) => (token.ends === Number.POSITIVE_INFINITY ? 0 : Math.ceil(token.ends - seconds()))
  const authOf = (name: string, token: Token) => ({
    client_token: name,
    accessor: 'a',
    policies: ['default', 'gmsa'],
    lease_duration: leaseOf(token),
    renewable: token.renewable && !token.batch,
    token_type: token.batch ? 'batch' : 'service',
    num_uses: Math.max(0, token.usesLeft),
  })

  function logIn(method: string, { body, clientSerial = '' }: SeenRequest): Reply {
    tries += 1
    const shown = membersOf(JSON.parse(body))
    const { approle, cert } = accepts
    const refusal = (): Reply | undefined => {
      if (method === 'kubernetes' || method === 'jwt') {
        const { role, jwts } = accepts[method]
        const invalid = method === 'jwt' ? 'error validating token: invalid expiration' : 'invalid expiration'
        if (shown['role'] !== role) return refuse(400, `invalid role name "${shown['role']}"`)
        return jwts.includes(String(shown['jwt']))
          ? undefined
          : refuse(method === 'jwt' ? 400 : 403, `${invalid} time (exp) claim: token is expired`)
      }
      if (method === 'approle') {
        const right = shown['role_id'] === approle.roleId && approle.secretIds.includes(String(shown['secret_id']))
        return right ? undefined : refuse(400, 'invalid role or secret ID')
      }
      if (method !== 'cert') return UNKNOWN
      const wanted = shown['name'] ?? cert.name
      if (clientSerial === '') return refuse(400, 'no client certificate found')
      return wanted === cert.name && cert.serials.includes(clientSerial)
        ? undefined
        : refuse(400, 'invalid certificate or no client certificate supplied')
    }
    const refused = refusal()
    if (refused) return refused
    const name = issue()
    return ok({ auth: authOf(name, tokens.get(name) as Token) })
  }

  function ofToken(path: string, name: string, token: Token): Reply {
    if (path === 'auth/token/lookup-self') {
      return ok({ data: { id: name, ttl: leaseOf(token), renewable: token.renewable, type: 'service' } })
    }
    if (token.batch) return refuse(400, `batch tokens cannot be ${path.includes('renew') ? 'renewed' : 'revoked'}`)
    if (path === 'auth/token/revoke-self') {
      token.revoked = true
      return { status: 204 }
    }
    if (!token.renewable) return refuse(400, 'lease is not renewable')
    token.ends = Math.min(seconds() + issues.ttl, token.born + issues.maxTtl)
    return ok({ auth: authOf(name, token) })
  }

  function readKv(path: string, query: URLSearchParams): Reply {
    if (kvVersion === 1) {
      const [version] = (secrets.get(path) ?? []).slice(-1)
      return version ? ok({ data: version.data }) : refuse(404)
    }
    if (!path.startsWith('data/')) {
      const warnings = ['Invalid path for a versioned K/V secrets engine. See the API docs.']
      return { status: 404, body: { ...PASSED, data: null, auth: null, warnings } }
    }
    const versions = secrets.get(path.slice('data/'.length)) ?? []
    const wanted = Number(query.get('version') ?? 0) || versions.length
    const version = versions[wanted - 1]
    if (!version) return refuse(404)
    const gone = version.destroyed || version.deleted !== ''
    const metadata = {
      version: wanted,
      created_time: 't',
      deletion_time: version.deleted,
      destroyed: version.destroyed,
    }
    const { body } = ok({ data: { data: gone ? null : version.data, metadata } })
    return { status: gone ? 404 : 200, body }
  }

  function read(path: string, query: URLSearchParams): Reply {
    // The mount that a path belongs to, the path of a secret too.
    if (`${path}/`.startsWith(`sys/internal/ui/mounts/${mount}/`)) {
      if (hidesMounts) return refuse(403, `preflight capability check returned 403, please ensure client's policies`)
      return ok({ data: { path: `${mount}/`, type: engine, options: kvVersion === 2 ? { version: '2' } : null } })
    }
    if (path.startsWith(`${mount}/`)) return readKv(path.slice(mount.length + 1), query)
    return refuse(404, `no handler for route "${path}". route entry not found.`)
  }

  /** The rules every request has to keep, whatever is asked for. */
  function check({ headers, method, path, body }: SeenRequest): void {
    const wrong = (what: string) => violations.push(`${method} ${path}: ${what}`)
    if (headers['x-vault-request'] !== 'true') wrong('no X-Vault-Request')
    if (path.startsWith('/v1/auth/') && path.endsWith('/login') && headers['x-vault-token']) wrong('token at a log-in')
    if (method === 'POST' && headers['content-type'] !== 'application/json') wrong('no JSON')
    if (method === 'GET' && body !== '') wrong('a body')
    if (path.startsWith('/v1/sys/health') && headers['x-vault-namespace']) wrong('namespace at sys/health')
  }

  function handle(request: SeenRequest): Reply {
    check(request)
    const { pathname, searchParams } = new URL(request.path, 'https://vault')
    const path = decodeURIComponent(pathname.slice('/v1/'.length))
    if (path === 'sys/health') return { status: ailing ?? 200, body: { initialized: true } }
    if (ailing !== undefined) return ailing === 503 ? refuse(503, 'Vault is sealed') : refuse(500, 'not served')
    if (request.headers['x-vault-namespace'] !== namespace) return refuse(404, 'namespace not found')
    const [, method] = /^auth\/(.+)\/login$/.exec(path) ?? []
    if (method !== undefined) return request.method === 'POST' ? logIn(method, request) : refuse(405)
    const name = String(request.headers['x-vault-token'] ?? '')
    const token = tokens.get(name)
    if (!token || !alive(token)) return UNKNOWN
    if (token.usesLeft > 0) token.usesLeft -= 1
    if (forbidden !== undefined && path.startsWith(forbidden)) return NOT_ALLOWED
    if (TOKEN_PATHS.includes(path)) {
      const get = path === 'auth/token/lookup-self'
      return (request.method === 'GET') === get ? ofToken(path, name, token) : refuse(405)
    }
    return request.method === 'GET' ? read(path, searchParams) : refuse(405)
  }

  const server = await startStandIn(handle, clientCa ? { clientCa } : {})
  const change = (secret: string, number: number, how: (version: Version) => void) => {
    const version = secrets.get(secret)?.[number - 1]
    if (version) how(version)
  }
  return {
    server,
    accepts,
    issues,
    tokens,
    logIns: () => tries,
    requests: (path) => server.seen.filter((each) => each.path.split('?')[0] === `/v1/${path}`).length,
    put(secret, data) {
      const versions = secrets.get(secret) ?? []
      secrets.set(secret, [...versions, { data, deleted: '', destroyed: false }])
      return versions.length + 1
    },
    remove: (secret) => void secrets.delete(secret),
    deleteVersion: (secret, number) => change(secret, number, (each) => (each.deleted = '2026-01-01T00:00:00Z')),
    destroyVersion: (secret, number) => change(secret, number, (each) => (each.destroyed = true)),
    issue,
    revokeAll() {
      for (const token of tokens.values()) token.revoked = true
    },
    forbid(path) {
      forbidden = path
    },
    ail(health) {
      ailing = health
    },
    violations,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}
