import type { SecretClient, SecretProperties } from '@azure/keyvault-secrets'
import { GmsaError } from '../../base/errors.ts'
import { checkAddress } from '../http.ts'
import type { Account, Provider, ProviderContext } from '../provider.ts'
import { fromRecords, malformed, parseRecordText, type RecordStore, type StoredRecord } from '../records.ts'
import { importSdk, renewableClients } from '../sdk.ts'
import { isAbsent, isForbidden, keyVaultError, remedyFor } from './causes.ts'
import { checkAuth, type Material, makeCredential, materialReader } from './credentials.ts'
import type { Options } from './schema.ts'
import { openTransport } from './transport.ts'
import { CLOUDS, configuredVaults, type SecretPlace, type Vaults } from './vaults.ts'

/** Opens the provider; no vault is asked before the first read. Rejects with CONFIG_INVALID. */
export async function openKeyVault(name: string, options: Options, context: ProviderContext): Promise<Provider> {
  const vaults = configuredVaults(name, options)
  checkAuth(name, options.auth)
  checkAuthority(name, options.authority)
  const packages = ['@azure/identity', '@azure/keyvault-secrets']
  const [identity, secrets, undici] = await importSdk(name, packages, () =>
    Promise.all([import('@azure/identity'), import('@azure/keyvault-secrets'), import('undici')]),
  )
  const store = secretStore({ identity, secrets, undici }, vaults, options, context)
  return fromRecords(name, store, context.clock, context.log)
}

interface Sdks {
  readonly identity: typeof import('@azure/identity')
  readonly secrets: typeof import('@azure/keyvault-secrets')
  readonly undici: typeof import('undici')
}

/** Every cloud there is serves this version of the API. */
const API_VERSION = '7.4'
/** A secret that nobody has. */
const PROBE = 'gmsa-account-provider-probe'
/** More versions than anybody keeps apart; a vault gives them in no order. */
const MAX_VERSIONS = 1_000

type Place = Pick<SecretPlace, 'vault' | 'objectId'>

/** All that is made of one state of the files: tokens are kept in here. */
interface Session {
  client(place: Place): SecretClient
  close(): void
}

function openSession(
  { identity, secrets, undici }: Sdks,
  options: Options,
  material: Material,
  now: () => number,
): Session {
  const transport = openTransport(undici, material.ca)
  const clients = new Map<string, SecretClient>()
  const { suffix } = CLOUDS[options.cloud ?? 'public']

  function client({ vault, objectId }: Place): SecretClient {
    const key = JSON.stringify([vault, objectId])
    const known = clients.get(key)
    if (known) return known
    const credential = makeCredential(identity, options, material, transport, now, objectId)
    const made = new secrets.SecretClient(vault, credential, {
      httpClient: transport,
      serviceVersion: API_VERSION,
      // What may be retried is retried once for all stores, by the broker, which knows the deadline.
      retryOptions: { maxRetries: 0 },
      // A token goes to no other place than the one that is configured.
      redirectOptions: { maxRetries: 0 },
      // Private clouds have names of their own. For whom a token is, is held in makeCredential in any case.
      disableChallengeResourceVerification: !new URL(vault).hostname.endsWith(`.${suffix}`),
    })
    clients.set(key, made)
    return made
  }

  return { client, close: () => void transport.close() }
}

function secretStore(sdks: Sdks, vaults: Vaults, options: Options, context: ProviderContext): RecordStore {
  const { clock } = context
  const sessions = renewableClients({
    material: materialReader(options, context),
    make: (material) => openSession(sdks, options, material, () => clock.now()),
    close: (session) => session.close(),
    remedy: remedyFor,
    clock,
  })

  /** Calls the vault; its errors, and those of whoever gives tokens, come out in our terms. */
  async function call<T>(place: Place, signal: AbortSignal, what: string, ask: (client: SecretClient) => Promise<T>) {
    try {
      return await sessions.use(signal, (session) => ask(session.client(place)))
    } catch (error) {
      signal.throwIfAborted()
      throw keyVaultError(error, what, new URL(place.vault).host, clock.now())
    }
  }

  function find(account: Account): SecretPlace {
    const place = vaults.find(account)
    checkIdentity(account, place, options)
    return place
  }

  async function read(account: Account, signal: AbortSignal): Promise<StoredRecord> {
    const place = find(account)
    const { name, version } = place
    const get = (client: SecretClient) =>
      client.getSecret(name, { abortSignal: signal, ...(version !== undefined && { version }) })
    const { value } = await call(place, signal, `secret of account ${account.name}`, get)
    if (typeof value !== 'string') throw malformed(account.name, 'the secret has no value')
    return parseRecordText(value, account.name)
  }

  async function readPrevious(account: Account, signal: AbortSignal): Promise<StoredRecord> {
    const place = find(account)
    if (place.version !== undefined) {
      throw new GmsaError('ACCOUNT_NOT_FOUND', `account ${account.name} is kept at one version: there is none before`)
    }
    const what = `versions of the secret of account ${account.name}`
    const versions = await call(place, signal, what, (client) =>
      versionsOf(client, place.name, signal).catch((error) => {
        // To list them takes a right of its own, which one can do without.
        if (!isForbidden(error)) throw error
        throw new GmsaError('ACCOUNT_NOT_FOUND', `the vault does not let us list the ${what}`)
      }),
    )
    const previous = versionBefore(versions)
    if (previous === undefined) {
      throw new GmsaError('ACCOUNT_NOT_FOUND', `secret of account ${account.name} has no enabled version before`)
    }
    return read({ ...account, options: { ...account.options, version: previous } }, signal)
  }

  return {
    read,
    readPrevious,
    /** Any right to read may be for single secrets: that the vault knows us is enough. */
    async probe(signal) {
      await call({ vault: vaults.home }, signal, 'its answer', (client) =>
        client.getSecret(PROBE, { abortSignal: signal }).catch((error) => {
          if (!isForbidden(error) && !isAbsent(error)) throw error
        }),
      )
    },
    close: async () => sessions.close(),
  }
}

async function versionsOf(client: SecretClient, name: string, signal: AbortSignal): Promise<SecretProperties[]> {
  const versions: SecretProperties[] = []
  for await (const each of client.listPropertiesOfSecretVersions(name, { abortSignal: signal })) {
    versions.push(each)
    if (versions.length >= MAX_VERSIONS) break
  }
  return versions
}

/** The newest enabled version before the newest of all, which is the one that is read without a version. */
function versionBefore(versions: readonly SecretProperties[]): string | undefined {
  const at = ({ createdOn }: SecretProperties) => createdOn?.getTime() ?? 0
  const [, ...before] = versions.toSorted((one, other) => at(other) - at(one))
  return before.find(({ enabled }) => enabled !== false)?.version
}

/** An account that names a managed identity is read as that one, where the provider is not somebody else. */
function checkIdentity({ name }: Account, { objectId }: SecretPlace, { auth }: Options): void {
  if (objectId === undefined || !auth) return
  const own = auth.objectId ?? auth.clientId ?? auth.resourceId ?? objectId
  if (auth.method === 'managed-identity' && own.toLowerCase() === objectId.toLowerCase()) return
  throw new GmsaError('ACCOUNT_NOT_FOUND', `secret of account ${name} is for another identity than the provider's`, {
    hint: 'leave ObjectId out of `secret`, or set no id in `auth`',
  })
}

function checkAuthority(name: string, authority: string | undefined): void {
  if (authority === undefined) return
  if (checkAddress(`${name}.authority`, authority).protocol === 'https:') return
  throw new GmsaError('CONFIG_INVALID', `providers.${name}.authority: expected https`)
}
