import { LEASE_GMSA_PATTERN, LEASE_ID_PATTERN } from '../agent/lease-names.ts'
import { DURATION_PATTERN } from '../base/duration.ts'
import { ADDRESS_PATTERN, NAMES_PATTERN } from '../base/patterns.ts'
import { ACCOUNT_NAME_PATTERN, NAMESPACE_PATTERN } from '../gmsa/account-name.ts'
import {
  BASE64_PATTERN,
  DOMAIN_PATTERN,
  SAM_ACCOUNT_NAME_PATTERN,
  SID_PATTERN,
  SPN_PATTERN,
  TIME_PATTERN,
} from '../gmsa/name-patterns.ts'

// What the schemas of the service and of the agent are made of; nothing here knows a provider.

/** Names of providers become metric labels and segments of environment variables. */
export const PROVIDER_NAME_PATTERN = '^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$'
/** The SHA-256 of a certificate: 32 bytes in hex, with or without colons. */
export const FINGERPRINT_PATTERN = '^[0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2}){31}$'
/** An account's name in which `*` stands for any run of characters. */
export const ACCOUNT_PATTERN_PATTERN = '^[a-z0-9.*-]{1,253}$'
/** An origin, as a client is told where a service is. */
export const SERVER_PATTERN = '^https://[^/?#@\\s]+/?$'
/** Permission bits in octal: nobody executes these files, and their owner can read them. */
export const FILE_MODE_PATTERN = '^0[46][046][04]$'

/** What a value of each grammar is called in an error message. */
export const GRAMMARS: ReadonlyMap<string, string> = new Map([
  [DURATION_PATTERN, 'a duration such as 30s, 5m or 10h5m'],
  [PROVIDER_NAME_PATTERN, 'a name of letters, digits, dots, dashes and underscores, 63 characters at most'],
  [
    NAMESPACE_PATTERN,
    'lower-case letters, digits and inner dashes, 63 characters at most, as Kubernetes names namespaces',
  ],
  [FINGERPRINT_PATTERN, 'a SHA-256 fingerprint: 64 hex digits, with or without colons'],
  [
    `^\\*$|${ACCOUNT_NAME_PATTERN}`,
    "an account name: lower-case letters, digits, inner dashes and dots, 253 characters at most; or '*'",
  ],
  [ACCOUNT_NAME_PATTERN, 'an account name: lower-case letters, digits, inner dashes and dots, 253 characters at most'],
  [SERVER_PATTERN, 'an address such as https://gmsa.example.com:8443'],
  [FILE_MODE_PATTERN, "a file mode in quotes, such as '0600' or '0640'"],
  [ACCOUNT_PATTERN_PATTERN, 'an account name, in which * stands for any run of characters'],
  [SAM_ACCOUNT_NAME_PATTERN, 'a sAMAccountName such as web01$, with the $ at its end'],
  [DOMAIN_PATTERN, 'the DNS name of a domain such as ad.example.com'],
  [SPN_PATTERN, 'a service principal name such as HTTP/web01.ad.example.com'],
  [ADDRESS_PATTERN, 'an address such as https://store.example.com:8200'],
  [NAMES_PATTERN, 'a name, or several with slashes between them, without blanks'],
  [SID_PATTERN, 'a SID such as S-1-5-21-1-2-3-1105'],
  [BASE64_PATTERN, 'base64'],
  [
    LEASE_ID_PATTERN,
    'a lease ID: letters, digits, dashes and underscores, a letter or digit first, 64 characters at most',
  ],
  [
    LEASE_GMSA_PATTERN,
    "a gMSA's name without its $: letters, digits, dots, dashes and underscores, 63 characters at most",
  ],
  [TIME_PATTERN, 'a time such as 2026-11-23T20:00:00Z'],
])

/** A mapping that takes these options and no other. */
export const mapping = <const P extends Readonly<Record<string, object>>>(description: string, properties: P) =>
  ({ type: 'object', description, properties, additionalProperties: false }) as const
export const text = (description: string) => ({ type: 'string', description, minLength: 1 }) as const
export const path = (description: string) => ({ ...text(description), format: 'path' }) as const
export const port = (description: string, value: number) =>
  ({ type: 'integer', description, minimum: 0, maximum: 65_535, default: value }) as const
export const duration = (description: string, value: string) =>
  ({ type: 'string', description, pattern: DURATION_PATTERN, default: value }) as const
/** The section `log`, of the service and of the agent alike. */
export const LOG = {
  ...mapping('The log on standard output.', {
    level: {
      description: 'The least that is logged.',
      enum: ['error', 'warn', 'info', 'debug', 'trace'],
      default: 'info',
    },
  }),
  default: {},
} as const
