import { GmsaError } from '../base/errors.ts'
import { PROVIDER_TYPES } from '../providers/index.ts'
import type { Provider, ProviderContext } from '../providers/provider.ts'
import type { ProviderConfig } from './config.ts'

/** Opens one configured store. Rejects with a GmsaError. */
export async function openProvider(name: string, config: ProviderConfig, context: ProviderContext): Promise<Provider> {
  const type = PROVIDER_TYPES.find((each) => each.type === config.type)
  if (!type) throw new GmsaError('CONFIG_INVALID', `providers.${name}.type: this build has no ${config.type} provider`)
  return type.open(name, config.options, context)
}

/** Opens every configured store; when one can't be opened, those that were are closed again. */
export async function openProviders(
  configs: ReadonlyMap<string, ProviderConfig>,
  context: ProviderContext,
): Promise<ReadonlyMap<string, Provider>> {
  await using opened = new AsyncDisposableStack()
  const providers = new Map<string, Provider>()
  for (const [name, config] of configs) providers.set(name, opened.use(await openProvider(name, config, context)))
  opened.move()
  return providers
}
