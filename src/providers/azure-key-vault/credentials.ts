import { basename, dirname } from 'node:path'
import type { AccessToken, GetTokenOptions, TokenCredential } from '@azure/identity'
import { GmsaError } from '../../base/errors.ts'
import { readCa } from '../pem-file.ts'
import type { ProviderContext } from '../provider.ts'
import { SecretFiles } from '../secret-files.ts'
import { type TokenFault, tokenError } from './causes.ts'
import { type Auth, METHODS, type Options } from './schema.ts'
import type { HttpClient, Transport } from './transport.ts'
import { CLOUDS } from './vaults.ts'

export type IdentitySdk = typeof import('@azure/identity')

/** What stands in files: read before each call, so that another text is taken up without a restart. */
export interface Material {
  readonly ca?: string
  readonly clientSecret?: string
  readonly certificate?: string
}

/** Throws CONFIG_INVALID where `auth` lacks what its method needs, or has what it does not know. */
export function checkAuth(name: string, auth: Auth | undefined): void {
  if (!auth) return
  const { method, ...given } = auth
  const { required, optional } = METHODS[method]
  const bad = (problem: string) => new GmsaError('CONFIG_INVALID', `providers.${name}.auth: ${method} ${problem}`)
  const missing = required.filter((member) => auth[member] === undefined)
  if (missing.length > 0) throw bad(`needs ${missing.join(', ')}`)
  const known: readonly string[] = [...required, ...optional]
  const unknown = Object.keys(given).filter((member) => !known.includes(member))
  if (unknown.length > 0) throw bad(`does not know ${unknown.join(', ')}`)
  if (method === 'managed-identity' && Object.keys(given).length > 1) throw bad('takes one id, not several')
}

/** Reads the files that the options name. Secret files are held to the rules for those. Rejects with STORE_ codes. */
export function materialReader({ ca, auth }: Options, { log }: ProviderContext) {
  const secretFile = (path: string | undefined) => {
    if (path === undefined) return async () => undefined
    const files = new SecretFiles(dirname(path), false, log)
    return async (signal: AbortSignal) => {
      const text = await files.read(files.directory, basename(path), signal)
      if (text !== undefined) return text
      throw new GmsaError('STORE_DENIED', `${path}: no such file`, { reason: 'not-found' })
    }
  }
  const readSecret = secretFile(auth?.clientSecretFile)
  const readCertificate = secretFile(auth?.certificate)
  return async (signal: AbortSignal): Promise<Material> => {
    const [clientSecret, certificate, roots] = await Promise.all([
      readSecret(signal),
      readCertificate(signal),
      ca === undefined ? undefined : readCa(ca),
    ])
    return {
      ...(roots !== undefined && { ca: roots }),
      // An editor puts a line break at the end.
      ...(clientSecret !== undefined && { clientSecret: clientSecret.replace(/\r?\n$/, '') }),
      ...(certificate !== undefined && { certificate }),
    }
  }
}

/**
 * The credential that the options describe. It asks for tokens of the cloud's vaults and of nobody else: a vault says
 * itself, in its challenge, for whom it wants one. `objectId` is the managed identity that an account names. Its errors
 * are in our terms; `now` is the wall clock.
 */
export function makeCredential(
  sdk: IdentitySdk,
  options: Options,
  material: Material,
  transport: Transport,
  now: () => number,
  objectId?: string,
): TokenCredential {
  const line = watchedLine(transport)
  const audience = `https://${CLOUDS[options.cloud ?? 'public'].suffix}/.default`
  const asking = new Map<string, Promise<AccessToken | null>>()
  let credential: TokenCredential | undefined

  async function ask(tokenOptions: GetTokenOptions): Promise<AccessToken | null> {
    line.begin()
    try {
      credential ??= credentialOf(sdk, options, material, line, objectId)
      return await credential.getToken(audience, tokenOptions)
    } catch (error) {
      throw tokenError(error, line.fault(), now())
    }
  }

  return {
    async getToken(scopes, { tenantId, claims, enableCae } = {}) {
      if ([scopes].flat().join() !== audience) {
        throw new GmsaError('STORE_DENIED', 'the vault asks for a token that is not for vaults of this cloud', {
          reason: 'protocol',
          hint: 'look at vault and cloud: no token was sent',
        })
      }
      // Callers that meet share one answer, since metadata services allow few questions; none of them may end it.
      const tokenOptions = {
        ...(tenantId !== undefined && { tenantId }),
        ...(claims !== undefined && { claims }),
        ...(enableCae !== undefined && { enableCae }),
      }
      const key = JSON.stringify(tokenOptions)
      const joined = asking.get(key) ?? ask(tokenOptions).finally(() => asking.delete(key))
      asking.set(key, joined)
      return await joined
    },
  }
}

interface WatchedLine extends HttpClient {
  /** Forgets what was before, but not that we are to wait: the library waits by itself then, and asks nobody. */
  begin(): void
  fault(): TokenFault | undefined
}

/**
 * A transport that remembers how its last request went wrong: the libraries say of a failed connection and of an
 * answer such as 500 no more than "network_error".
 */
function watchedLine(transport: Transport): WatchedLine {
  let fault: TokenFault | undefined
  return {
    async sendRequest(request) {
      try {
        const response = await transport.sendRequest(request)
        const retryAfter = response.headers.get('retry-after')
        fault = { status: response.status, ...(retryAfter !== undefined && { retryAfter }) }
        return response
      } catch (error) {
        fault = { error }
        throw error
      }
    },
    begin() {
      if (fault?.status !== 429) fault = undefined
    },
    fault: () => fault,
  }
}

function credentialOf(
  sdk: IdentitySdk,
  { auth, authority, cloud = 'public' }: Options,
  { clientSecret = '', certificate = '' }: Material,
  httpClient: HttpClient,
  objectId: string | undefined,
): TokenCredential {
  const host = authority ?? CLOUDS[cloud].authority
  // Metadata services throttle and restart, and want patience; all else is retried once for all stores, by the broker.
  const metadata = { httpClient, ...(host !== undefined && { authorityHost: host }) }
  const common = { ...metadata, retryOptions: { maxRetries: 0 }, disableInstanceDiscovery: authority !== undefined }
  const { clientId, tenantId, resourceId, tokenFile } = auth ?? {}
  const managed = () => {
    const own = objectId ?? auth?.objectId
    if (own !== undefined) return new sdk.ManagedIdentityCredential({ ...metadata, objectId: own })
    if (resourceId !== undefined) return new sdk.ManagedIdentityCredential({ ...metadata, resourceId })
    return new sdk.ManagedIdentityCredential({ ...metadata, ...(clientId !== undefined && { clientId }) })
  }
  const workload = () =>
    new sdk.WorkloadIdentityCredential({
      ...common,
      ...(clientId !== undefined && { clientId }),
      ...(tenantId !== undefined && { tenantId }),
      ...(tokenFile !== undefined && { tokenFilePath: tokenFile }),
    })
  if (objectId !== undefined) return managed()
  switch (auth?.method) {
    case 'managed-identity':
      return managed()
    case 'workload-identity':
      return workload()
    case 'client-secret':
      return new sdk.ClientSecretCredential(tenantId ?? '', clientId ?? '', clientSecret, common)
    case 'client-certificate':
      return new sdk.ClientCertificateCredential(tenantId ?? '', clientId ?? '', { certificate }, common)
    case undefined: {
      // As AKS sets it for pods with a workload identity; without it the credential can't even be made.
      const federated = process.env['AZURE_FEDERATED_TOKEN_FILE'] !== undefined
      const chain = [new sdk.EnvironmentCredential(common), ...(federated ? [workload()] : []), managed()]
      return new sdk.ChainedTokenCredential(...chain)
    }
  }
}
