import type { Config } from './config.ts'
import { accountReferences } from './config-rules.ts'

/**
 * What a credential spec of this gMSA hands to Rancher's plug-in: the folder of our host files, and the account with
 * whose credential the gMSA's provider reads its password. Undefined where the configuration has not both.
 */
export function pluginInputOf(account: string, { accounts, providers, ccg }: Config): string | undefined {
  const provider = accounts.get(account)?.provider ?? ''
  const bind = accountReferences({ [provider]: providers.get(provider)?.options }).find(({ path }) =>
    path.includes('bind'),
  )
  return bind && ccg ? `${ccg.namespace}:${bind.account}` : undefined
}
