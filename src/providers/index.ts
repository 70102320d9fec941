import { activeDirectory } from './active-directory/index.ts'
import { awsSecretsManager } from './aws-secrets-manager/index.ts'
import { azureKeyVault } from './azure-key-vault/index.ts'
import type { ProviderType } from './define.ts'
import { file } from './file/index.ts'
import { kdsRootKey } from './kds-root-key/index.ts'
import { kubernetes } from './kubernetes/index.ts'
import { vault } from './vault/index.ts'

/** Every type of store there is. A new one is a line here, its folder, its test and its page in docs/providers. */
export const PROVIDER_TYPES: readonly ProviderType[] = [
  file,
  kubernetes,
  vault,
  azureKeyVault,
  awsSecretsManager,
  activeDirectory,
  kdsRootKey,
]
