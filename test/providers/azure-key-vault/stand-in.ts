import { constants, createHash, createPublicKey, randomUUID, verify, X509Certificate } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { vi } from 'vitest'
import { azureKeyVault } from '../../../src/providers/azure-key-vault/index.ts'
import { type OutageFixture, RETRY_AFTER } from '../../contract/outages.ts'
import { type Reply, type SeenRequest, type StandIn, startStandIn } from '../../fakes/stand-in.ts'

/*
 * Stand-ins of Azure Key Vault, of the token endpoint of Microsoft Entra (both in one server) and of the metadata
 * service of a virtual machine, written from their published protocols. They check tokens, audiences, assertions,
 * headers and the version of the API.
 */

const AUDIENCE = 'https://vault.azure.net'
const LIFETIME = 3_600

interface Version {
  readonly id: string
  readonly value: string
  /** Seconds since 1970. */
  readonly created: number
  enabled: boolean
}

/** An application or an identity that may have tokens: how it shows that it is itself. */
interface Principal {
  readonly secret?: string
  /** A token of another issuer, which is exchanged. */
  readonly assertion?: string
  /** PEM of the certificate whose key signs its assertions. */
  readonly certificate?: string
}

export interface KeyVault extends AsyncDisposable {
  readonly server: StandIn
  readonly metadata: StandIn
  readonly tenant: string
  readonly principals: Map<string, Principal>
  /** Tokens given so far, by whom they are for. */
  readonly issued: string[]
  /** What the vault says to a token that it takes; undefined: it lets everybody read. */
  forbidden: string | undefined
  /** Whether versions may be listed. */
  mayList: boolean
  /** In seconds; counts for the tokens that are given from now on. */
  lifetime: number
  /** What the challenge says: for whom a token has to be. */
  audience: string
  put(name: string, value: string, more?: Partial<Version>): string
  remove(name: string): void
  /** The tokens given so far are no longer taken. */
  withdrawTokens(): void
  /** Requests to the vault itself, as `GET /secrets/…`. */
  reads(): string[]
}

const failed = (status: number, code: string, inner?: string): Reply => ({
  status,
  body: { error: { code, message: 'pa55-Kanari', ...(inner && { innererror: { code: inner } }) } },
})

export async function startKeyVault(): Promise<KeyVault> {
  const secrets = new Map<string, Version[]>()
  const tokens = new Map<string, { readonly who: string; readonly until: number }>()
  const tenant = randomUUID()
  let serial = 0

  function issue(who: string) {
    vault.issued.push(who)
    const token = randomUUID()
    tokens.set(token, { who, until: Date.now() + vault.lifetime * 1000 })
    return { access_token: token, token_type: 'Bearer', expires_in: vault.lifetime }
  }

  /** `/<tenant>/oauth2/v2.0/token` and what a library looks up before it asks there. */
  function entra({ method, path, body }: SeenRequest): Reply {
    const base = `${server.address}/${tenant}`
    if (method === 'GET' && path.startsWith(`/${tenant}/v2.0/.well-known/openid-configuration`)) {
      const endpoints = { token_endpoint: `${base}/oauth2/v2.0/token`, authorization_endpoint: `${base}/authorize` }
      return { status: 200, body: { ...endpoints, issuer: `${base}/v2.0`, jwks_uri: `${base}/keys` } }
    }
    if (method !== 'POST' || !path.startsWith(`/${tenant}/oauth2/v2.0/token`)) return { status: 404 }
    const form = new URLSearchParams(body)
    const refused = refusal(form, vault.principals, `${base}/oauth2/v2.0/token`)
    if (refused) return { status: 401, body: refused }
    return { status: 200, body: issue(form.get('client_id') ?? '') }
  }

  function keyVault(request: SeenRequest): Reply {
    const url = new URL(request.path, server.address)
    const token = tokens.get(String(request.headers['authorization']).replace(/^Bearer /, ''))
    if (!token || token.until < Date.now()) {
      const error = request.headers['authorization'] ? 'error="invalid_token", ' : ''
      const challenge = `Bearer ${error}authorization="${server.address}/${tenant}", resource="${vault.audience}"`
      return { ...failed(401, 'Unauthorized'), headers: { 'www-authenticate': challenge } }
    }
    if (url.searchParams.get('api-version') !== '7.4') return failed(400, 'BadParameter')
    if (vault.forbidden !== undefined) return failed(403, 'Forbidden', vault.forbidden)
    const [, collection, name = '', version] = url.pathname.split('/')
    const versions = secrets.get(name)
    if (collection !== 'secrets') return failed(404, 'NotFound')
    if (version === 'versions') {
      if (!vault.mayList) return failed(403, 'Forbidden', 'ForbiddenByPolicy')
      return { status: 200, body: listed(versions ?? [], name, Number(url.searchParams.get('$skiptoken'))) }
    }
    const newest = versions?.toSorted((one, other) => other.created - one.created)[0]
    const found = version ? versions?.find(({ id }) => id === version) : newest
    if (!found) return failed(404, 'SecretNotFound')
    if (!found.enabled) return failed(403, 'Forbidden', 'SecretDisabled')
    return { status: 200, body: { value: found.value, ...described(name, found) } }
  }

  const described = (name: string, { id, enabled, created }: Version) => ({
    id: `${server.address}/secrets/${name}/${id}`,
    attributes: { enabled, created, updated: created, recoveryLevel: 'Recoverable+Purgeable' },
  })
  /** Two a page, as the order of pages is what a client must not lean on. */
  function listed(versions: readonly Version[], name: string, from: number) {
    const next = `${server.address}/secrets/${name}/versions?api-version=7.4&$skiptoken=${from + 2}`
    const value = versions.slice(from, from + 2).map((each) => described(name, each))
    return { value, nextLink: from + 2 < versions.length ? next : null }
  }

  const server = await startStandIn((request) =>
    request.path.startsWith('/secrets/') ? keyVault(request) : entra(request),
  )
  const metadata = await startStandIn(
    ({ path, headers }) => {
      const url = new URL(path, 'http://localhost')
      if (headers['metadata'] !== 'true') return { status: 400, body: { error: 'bad_request_102' } }
      const who = ['object_id', 'client_id', 'msi_res_id'].map((name) => url.searchParams.get(name)).find(Boolean)
      const known = vault.principals.has(who ?? 'system') && url.searchParams.get('resource') === AUDIENCE
      if (!known) {
        return { status: 400, body: { error: 'invalid_request', error_description: 'Identity not found pa55' } }
      }
      const { expires_in: seconds, ...token } = issue(who ?? 'system')
      const end = Math.floor(Date.now() / 1000) + seconds
      return {
        status: 200,
        body: { ...token, expires_in: String(seconds), expires_on: String(end), resource: AUDIENCE },
      }
    },
    { tls: false },
  )

  const vault: KeyVault = {
    server,
    metadata,
    tenant,
    principals: new Map(),
    issued: [],
    forbidden: undefined,
    mayList: true,
    lifetime: LIFETIME,
    audience: AUDIENCE,
    put(name, value, more = {}) {
      serial += 1
      const made = { id: randomUUID().replaceAll('-', ''), value, created: 1.7e9 + serial, enabled: true, ...more }
      secrets.set(name, [...(secrets.get(name) ?? []), made])
      return made.id
    },
    remove: (name) => void secrets.delete(name),
    withdrawTokens: () => tokens.clear(),
    reads: () => server.seen.filter(({ path }) => path.startsWith('/secrets/')).map(({ path }) => path),
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]()
      await metadata[Symbol.asyncDispose]()
    },
  }
  return vault
}

/** What Entra says to somebody who does not show that it is a principal; undefined where it does. */
function refusal(form: URLSearchParams, principals: ReadonlyMap<string, Principal>, endpoint: string) {
  const no = (error: string, number: number) => ({
    error,
    error_description: `AADSTS${number}: pa55-Kanari. Trace ID: 0`,
    error_codes: [number],
  })
  const principal = principals.get(form.get('client_id') ?? '')
  if (!principal) return no('unauthorized_client', 700016)
  if (form.get('grant_type') !== 'client_credentials' || form.get('scope') !== `${AUDIENCE}/.default`) {
    return no('invalid_scope', 70011)
  }
  const assertion = form.get('client_assertion')
  if (assertion === null) {
    const good = principal.secret !== undefined && form.get('client_secret') === principal.secret
    return good ? undefined : no('invalid_client', 7000215)
  }
  if (form.get('client_assertion_type') !== 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer') {
    return no('invalid_request', 50027)
  }
  if (principal.certificate !== undefined) {
    return isSignedBy(principal.certificate, assertion, endpoint) ? undefined : no('invalid_client', 700027)
  }
  return assertion === principal.assertion ? undefined : no('invalid_client', 70021)
}

/** RFC 7523: a JWT for this endpoint, in force, signed with the certificate's key, which its thumbprint names. */
function isSignedBy(certificate: string, assertion: string, endpoint: string): boolean {
  const [head = '', payload = '', signature = ''] = assertion.split('.')
  const json = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
  const { alg, 'x5t#S256': thumbprint } = json(head)
  const { aud, nbf, exp } = json(payload)
  const key = { key: createPublicKey(certificate), padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }
  const expected = createHash('sha256').update(new X509Certificate(certificate).raw).digest('base64url')
  const now = Date.now() / 1000
  const told = alg === 'PS256' && thumbprint === expected && aud === endpoint && nbf <= now + 1 && now < exp
  return told && verify('sha256', Buffer.from(`${head}.${payload}`), key, Buffer.from(signature, 'base64url'))
}

/** Nothing of the machine's own Azure settings. */
export function stubAzureEnvironment(more: Readonly<Record<string, string>> = {}): void {
  const own = /^(?:AZURE|MSI|IDENTITY|IMDS)_|^(?:https?|all|no)_proxy$/i
  for (const name of Object.keys(process.env)) if (own.test(name)) vi.stubEnv(name, undefined)
  for (const [name, value] of Object.entries(more)) vi.stubEnv(name, value)
}

export interface AzureFixture extends OutageFixture {
  readonly vault: KeyVault
  readonly folder: string
  /** For a provider that asks as an application with a client secret. */
  readonly options: {
    readonly vault: string
    readonly authority: string
    readonly ca: string
    readonly auth: Readonly<Record<string, string>>
  }
}

/** The provider over the stand-ins, for the contract, the outages and tests of its own. */
export async function azureFixture(): Promise<AzureFixture> {
  const vault = await startKeyVault()
  const { server } = vault
  const folder = await mkdtemp(join(tmpdir(), 'gmsa-azure-'))
  const [ca, clientSecretFile] = [join(folder, 'ca.crt'), join(folder, 'client-secret')]
  const clientId = randomUUID()
  vault.principals.set(clientId, { secret: 'pa55-Kanari-client' })
  await writeFile(ca, server.ca)
  await writeFile(clientSecretFile, 'pa55-Kanari-client\n', { mode: 0o600 })
  stubAzureEnvironment()
  const auth = { method: 'client-secret', tenantId: vault.tenant, clientId, clientSecretFile }
  const options = { vault: server.address, authority: server.address, ca, auth }
  return {
    vault,
    folder,
    options,
    open: (context) => azureKeyVault.open('akv', options, context),
    put: async (secret, members) => void vault.put(secret, JSON.stringify(members)),
    remove: async (secret) => vault.remove(secret),
    makeUnreachable: () => server.stop(),
    hang: async () => server.fail('hang'),
    async fail(how) {
      if (how === 'forbidden') vault.forbidden = 'ForbiddenByRbac'
      else if (how === 'token-expired' || how === 'token-revoked') vault.withdrawTokens()
      else if (how === 'refused') await server.stop()
      else if (how === 'wrong-name') await server.show('wrong-name')
      else if (how === 'unknown-ca') await server.show('other-ca')
      else server.fail(how === 'throttled' || how === 'server-error' ? ANSWERS[how] : how, isRead)
    },
    async restore() {
      vault.forbidden = undefined
      await server.restore()
    },
    rotateCa: async () => writeFile(ca, await server.rotateCa()),
    async [Symbol.asyncDispose]() {
      vi.unstubAllEnvs()
      await vault[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

const isRead = ({ path }: SeenRequest) => path.startsWith('/secrets/')
const ANSWERS: Readonly<Record<'throttled' | 'server-error', Reply>> = {
  throttled: { ...failed(429, 'Throttled'), headers: { 'retry-after': String(RETRY_AFTER) } },
  'server-error': failed(500, 'InternalError'),
}
