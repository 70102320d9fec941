import { activeDirectory } from './active-directory/index.ts'
import type { ProviderType } from './define.ts'
import { file } from './file/index.ts'
import { kubernetes } from './kubernetes/index.ts'

/** Every type of store there is. A new one is a line here, its folder, its test and its page in docs/providers. */
export const PROVIDER_TYPES: readonly ProviderType[] = [file, kubernetes, activeDirectory]
