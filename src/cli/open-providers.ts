import { GmsaError } from '../base/errors.ts'
import { PROVIDER_TYPES } from '../providers/index.ts'
import type { Account, Provider, ProviderContext } from '../providers/provider.ts'
import type { AccountConfig, ProviderConfig } from './config.ts'

/** What the process gives to all providers it opens. */
export type OpenContext = Pick<ProviderContext, 'log' | 'clock'>

/** The configuration around a provider: where its `bind` or `rootKeys` may lead. */
export interface Neighbours {
  readonly providers: ReadonlyMap<string, ProviderConfig>
  /** Whose entries say how an account is called in its store. An account need not stand here. */
  readonly accounts?: ReadonlyMap<string, AccountConfig>
}

type Accounts = Neighbours['accounts']
type Readers = Required<Pick<ProviderContext, 'readCredential' | 'readRootKeys'>>

/**
 * Opens one configured store, and with it, when it first asks for what they hold, those of `neighbours` that it refers
 * to; they are closed with it. Rejects with a GmsaError.
 */
export async function openProvider(
  name: string,
  config: ProviderConfig,
  context: OpenContext,
  neighbours?: Neighbours,
): Promise<Provider> {
  if (!neighbours) return openOne(name, config, context)
  checkReferences(name, neighbours.providers)
  const helpers = new AsyncDisposableStack()
  const opened = new Map<string, Promise<Provider>>()
  const readers = neighbourReaders(neighbours.accounts, async (other) => {
    const its = neighbours.providers.get(other)
    if (!its) return undefined
    const opening = opened.get(other) ?? openProvider(other, its, context, neighbours)
    opened.set(other, opening)
    return opening
  })
  const provider = await openOne(name, config, context, readers)
  helpers.defer(async () => {
    for (const opening of opened.values()) await (await opening.catch(() => undefined))?.[Symbol.asyncDispose]()
  })
  helpers.use(provider)
  return { ...provider, [Symbol.asyncDispose]: () => helpers.disposeAsync() }
}

/** Opens every configured store; when one can't be opened, those that were are closed again. */
export async function openProviders(
  configs: ReadonlyMap<string, ProviderConfig>,
  context: OpenContext,
  accounts?: ReadonlyMap<string, AccountConfig>,
): Promise<ReadonlyMap<string, Provider>> {
  await using opened = new AsyncDisposableStack()
  const providers = new Map<string, Provider>()
  // Asked for at the first read only, so the order in which they are opened does not matter.
  const readers = neighbourReaders(accounts, async (name) => providers.get(name))
  for (const [name, config] of configs) {
    checkReferences(name, configs)
    providers.set(name, opened.use(await openOne(name, config, context, readers)))
  }
  opened.move()
  return providers
}

async function openOne(
  name: string,
  config: ProviderConfig,
  { log, clock }: OpenContext,
  readers?: Readers,
): Promise<Provider> {
  const type = PROVIDER_TYPES.find((each) => each.type === config.type)
  if (!type) throw new GmsaError('CONFIG_INVALID', `providers.${name}.type: this build has no ${config.type} provider`)
  return type.open(name, config.options, { log, clock, ...readers })
}

/**
 * Reads credentials and root keys of the providers that `find` knows; `accounts` may give a record another name than
 * the account.
 */
export function neighbourReaders(accounts: Accounts, find: (name: string) => Promise<Provider | undefined>): Readers {
  async function expectProvider(name: string): Promise<Provider> {
    const provider = await find(name)
    if (!provider) throw new GmsaError('CONFIG_INVALID', `no such provider: ${name}`)
    return provider
  }
  function asked(provider: string, account: string): Account {
    const entry = accounts?.get(account)
    const { secret = account, options = {} } = entry?.provider === provider ? entry : {}
    return { name: account, secret, options }
  }
  return {
    async readCredential(name, account, signal, which = 'current') {
      const { reads, readPrevious } = await expectProvider(name)
      if (!reads.credential)
        throw new GmsaError('CONFIG_INVALID', `provider ${name} holds no credentials to log on with`)
      if (which === 'current') return reads.credential(asked(name, account), signal)
      if (readPrevious) return readPrevious(asked(name, account), signal)
      throw new GmsaError('ACCOUNT_NOT_FOUND', `provider ${name} keeps no previous credential`)
    },
    async readRootKeys(name, account, signal) {
      const { 'kds-root-key': read } = (await expectProvider(name)).reads
      if (!read) throw new GmsaError('CONFIG_INVALID', `provider ${name} holds no KDS root keys`)
      return read(asked(name, account), signal)
    },
  }
}

/** The providers that one refers to: an option such as `bind: { provider, account }` or `rootKeys`. */
function referencesOf(config: ProviderConfig | undefined): string[] {
  return Object.values(config?.options ?? {}).flatMap((option) => {
    if (typeof option !== 'object' || option === null || !('provider' in option)) return []
    return typeof option.provider === 'string' ? [option.provider] : []
  })
}

/** Throws CONFIG_INVALID where what `name` refers to, and what that refers to, is missing or leads back. */
function checkReferences(
  name: string,
  configs: ReadonlyMap<string, ProviderConfig>,
  way: readonly string[] = [name],
): void {
  for (const other of referencesOf(configs.get(way.at(-1) ?? name))) {
    if (!configs.has(other)) {
      throw new GmsaError('CONFIG_INVALID', `providers.${way.at(-1)}: refers to provider ${other}, which there is not`)
    }
    if (way.includes(other)) {
      throw new GmsaError('CONFIG_INVALID', `providers.${name}: refers to itself: ${[...way, other].join(' → ')}`)
    }
    checkReferences(name, configs, [...way, other])
  }
}
