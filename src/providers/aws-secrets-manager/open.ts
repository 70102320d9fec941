import type { GetSecretValueCommandOutput, SecretsManagerClient } from '@aws-sdk/client-secrets-manager'
import { GmsaError } from '../../base/errors.ts'
import { checkAddress } from '../http.ts'
import { readCa } from '../pem-file.ts'
import type { Account, Provider, ProviderContext } from '../provider.ts'
import { fromRecords, malformed, parseRecordText, type RecordStore, type StoredRecord } from '../records.ts'
import { importSdk, renewableClients } from '../sdk.ts'
import { remedyFor, secretsManagerError } from './causes.ts'
import { type ClientOptions, makeClient, type Sdk } from './client.ts'
import type { Options } from './schema.ts'

/** Opens the provider; no secret is asked for before the first read. Rejects with CONFIG_INVALID. */
export async function openSecretsManager(
  name: string,
  { ca, ...options }: Options,
  context: ProviderContext,
): Promise<Provider> {
  if (options.endpoint !== undefined) checkAddress(name, options.endpoint)
  const packages = ['@aws-sdk/client-secrets-manager']
  const sdk = await importSdk(name, packages, () => import('@aws-sdk/client-secrets-manager'))
  const region = await regionOf(name, sdk, options)
  const store = secretStore(sdk, { ...options, region }, ca, context)
  return fromRecords(name, store, context.clock, context.log)
}

/** A name of a secret, or its ARN with the region in it. */
const NAME = /^[A-Za-z0-9/_+=.@-]{1,512}$/
const ARN = /^arn:aws[a-z-]*:secretsmanager:([a-z0-9-]+):[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]{1,520}$/

type Stage = 'AWSCURRENT' | 'AWSPREVIOUS'

function secretStore(
  sdk: Sdk,
  options: Required<Pick<ClientOptions, 'region'>> & ClientOptions,
  ca: string | undefined,
  { clock }: ProviderContext,
): RecordStore {
  const clients = renewableClients({
    material: async () => (ca === undefined ? {} : { ca: await readCa(ca) }),
    make: (material: { readonly ca?: string }) => makeClient(sdk, options, material.ca),
    close: (client) => client.destroy(),
    remedy: (error) => remedyFor(error, clock.now()),
    clock,
  })

  /** Calls the service; its errors come out in our terms. */
  async function call<T>(signal: AbortSignal, what: string, ask: (client: SecretsManagerClient) => Promise<T>) {
    try {
      return await clients.use(signal, ask)
    } catch (error) {
      signal.throwIfAborted()
      throw secretsManagerError(error, what, clock.now())
    }
  }

  async function read(account: Account, stage: Stage, signal: AbortSignal): Promise<StoredRecord> {
    const version = pinnedVersion(account)
    if (version !== undefined && stage === 'AWSPREVIOUS') {
      throw new GmsaError('ACCOUNT_NOT_FOUND', `account ${account.name} is kept at one version: there is none before`)
    }
    const command = new sdk.GetSecretValueCommand({
      SecretId: secretIdOf(account, options.region),
      ...(version === undefined ? { VersionStage: stage } : { VersionId: version }),
    })
    const answer = await call(signal, `secret of account ${account.name}`, (client) =>
      client.send(command, { abortSignal: signal }),
    )
    return recordOf(answer, account.name)
  }

  return {
    read: (account, signal) => read(account, 'AWSCURRENT', signal),
    readPrevious: (account, signal) => read(account, 'AWSPREVIOUS', signal),
    /** Any right to read is for single secrets, and which there are is not known here: so this asks for a random one. */
    async probe(signal) {
      const command = new sdk.GetRandomPasswordCommand({})
      await call(signal, 'a random password', (client) =>
        client.send(command, { abortSignal: signal }).catch((error: Error) => {
          // It knows us, and answers: what we may read is told by reading.
          if (error.name !== 'AccessDeniedException') throw error
        }),
      )
    },
    close: async () => clients.close(),
  }
}

/** The record in an answer: of the text, or of bytes that are a keytab (MIT 0x0502) or text. */
function recordOf(
  { SecretString: text, SecretBinary: bytes, VersionStages: stages = [] }: GetSecretValueCommandOutput,
  account: string,
): StoredRecord {
  // A version that is being rotated in may not be the account's password yet.
  if (stages.includes('AWSPENDING') && !stages.some((stage) => stage === 'AWSCURRENT' || stage === 'AWSPREVIOUS')) {
    throw malformed(account, 'the version is labelled AWSPENDING: its rotation has not come to its end')
  }
  if (text !== undefined) return parseRecordText(text, account)
  if (bytes === undefined) throw malformed(account, 'the secret has no value')
  try {
    if (bytes[0] === 5 && bytes[1] === 2) return { keytab: Buffer.from(bytes).toString('base64') }
    return parseRecordText(new TextDecoder('utf-8', { fatal: true }).decode(bytes), account)
  } catch (error) {
    throw error instanceof GmsaError ? error : malformed(account, 'bytes are neither a keytab nor UTF-8 text')
  } finally {
    bytes.fill(0)
  }
}

function pinnedVersion({ options: { version } }: Account): string | undefined {
  return typeof version === 'string' ? version : undefined
}

function secretIdOf({ name, secret }: Account, region: string): string {
  const [arn, its] = ARN.exec(secret) ?? []
  if (its !== undefined && its !== region) {
    throw new GmsaError(
      'ACCOUNT_NOT_FOUND',
      `secret of account ${name} is in region ${its}, the provider in ${region}`,
      {
        hint: `configure a provider with region: ${its}`,
      },
    )
  }
  if (arn !== undefined || NAME.test(secret)) return secret
  throw new GmsaError('ACCOUNT_NOT_FOUND', `secret of account ${name} is neither the name nor the ARN of a secret`)
}

/** The region as configured, or as the library finds it. Rejects with CONFIG_INVALID where nobody names one. */
async function regionOf(name: string, sdk: Sdk, options: ClientOptions): Promise<string> {
  if (options.region !== undefined) return options.region
  const client = makeClient(sdk, options)
  try {
    return await client.config.region()
  } catch {
    throw new GmsaError(
      'CONFIG_INVALID',
      `providers.${name}.region: expected, as neither AWS_REGION nor a profile has it`,
    )
  } finally {
    client.destroy()
  }
}
