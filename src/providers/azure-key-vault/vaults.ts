import { GmsaError } from '../../base/errors.ts'
import { checkAddress } from '../http.ts'
import type { Account } from '../provider.ts'
import { parsePluginInput } from './plugin-input.ts'
import type { Options } from './schema.ts'

interface Cloud {
  /** Absent: the library's own default, which AZURE_AUTHORITY_HOST may change. */
  readonly authority?: string
  /** Vaults are below this name, and tokens are for it. */
  readonly suffix: string
}

export const CLOUDS: Readonly<Record<NonNullable<Options['cloud']>, Cloud>> = {
  public: { suffix: 'vault.azure.net' },
  'us-government': { suffix: 'vault.usgovcloudapi.net', authority: 'https://login.microsoftonline.us' },
  china: { suffix: 'vault.azure.cn', authority: 'https://login.chinacloudapi.cn' },
}

const VAULT_NAME = /^[A-Za-z](?:[A-Za-z0-9-]{1,22})[A-Za-z0-9]$/
const SECRET_NAME = /^[A-Za-z0-9-]{1,127}$/
const SECRET_PATH = /^\/secrets\/([A-Za-z0-9-]{1,127})(?:\/([A-Za-z0-9]{1,64}))?\/?$/

/** Where the secret of an account is. */
export interface SecretPlace {
  /** `https://host[:port]` of the vault. */
  readonly vault: string
  readonly name: string
  readonly version?: string
  /** Object id of the managed identity to ask as, where the account names one. */
  readonly objectId?: string
}

export interface Vaults {
  /** The one that accounts are in which do not name another. */
  readonly home: string
  /** Throws ACCOUNT_NOT_FOUND where the account names no secret, or one in a vault that is not configured. */
  find(account: Account): SecretPlace
}

/** The vaults of the configuration. Throws CONFIG_INVALID. */
export function configuredVaults(name: string, { vault, otherVaults = [], cloud = 'public' }: Options): Vaults {
  const originOf = (each: string, option: string) => {
    if (VAULT_NAME.test(each)) return `https://${each.toLowerCase()}.${CLOUDS[cloud].suffix}`
    const url = checkAddress(`${name}.${option}`, each)
    if (url.protocol === 'https:' && url.pathname === '/') return url.origin
    throw new GmsaError('CONFIG_INVALID', `providers.${name}.${option}: expected a name or https://HOST and no path`)
  }
  const home = originOf(vault, 'vault')
  const all = [home, ...otherVaults.map((each) => originOf(each, 'otherVaults'))]

  function find(account: Account): SecretPlace {
    const bad = (problem: string, hint?: string) =>
      new GmsaError('ACCOUNT_NOT_FOUND', `secret of account ${account.name} ${problem}`, hint ? { hint } : {})
    const { version: pinned } = account.options
    const pin = typeof pinned === 'string' ? { version: pinned } : {}
    const input = parsePluginInput(account.secret)
    const text = input?.secretUri ?? account.secret
    if (!input && SECRET_NAME.test(text)) return { vault: home, name: text, ...pin }
    const url = URL.parse(text)
    if (!url)
      throw bad('is neither the name nor the URI of a secret', 'names have letters, digits and dashes; no quotes')
    if (url.protocol !== 'https:' || url.username || url.password) throw bad('is not an https URI')
    const [, secret, version = pin.version] = SECRET_PATH.exec(url.pathname) ?? []
    if (secret === undefined || url.search || url.hash) throw bad('is not a URI such as https://VAULT/secrets/NAME')
    if (!all.includes(url.origin)) throw bad(`is in the vault ${url.host}`, 'name that vault in otherVaults')
    if (pin.version !== undefined && version !== pin.version) throw bad('names one version, and `version` another')
    return {
      vault: url.origin,
      name: secret,
      ...(version !== undefined && { version }),
      ...(input?.objectId !== undefined && { objectId: input.objectId }),
    }
  }

  return { home, find }
}
