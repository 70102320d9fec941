import { ENCTYPE_WORDS } from '../kerberos/enctype.ts'

export { accountOptionsOf } from '../gmsa/account-options.ts'

/** The grammar of sAMAccountName as a JSON Schema pattern: that of a gMSA ends in its one `$`. */
export const SAM_ACCOUNT_NAME_PATTERN = '^[^\\u0000-\\u0020"/\\\\\\[\\]:;|=,+*?<>@$]{1,255}\\$$'
/** The DNS name of a domain. */
export const DOMAIN_PATTERN =
  '^(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+$'
/** A service principal name: class and host, and for some services a name of their own. */
export const SPN_PATTERN = '^[^\\u0000-\\u0020/@]+(?:/[^\\u0000-\\u0020/@]+){1,2}$'
/** A SID in text, of an account in a domain. */
export const SID_PATTERN = '^S-1-5-21(?:-[0-9]{1,10}){4}$'
/** Bytes in base64 (RFC 4648 4), one at least. */
export const BASE64_PATTERN = '^(?=.)(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$'
/** RFC 3339 with a zone, or as a directory writes it (RFC 4517 3.3.13). */
export const TIME_PATTERN =
  '^(?:[0-9]{14}\\.0Z|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2}))$'
/** The most days a domain controller takes for msDS-ManagedPasswordInterval. */
const MAX_INTERVAL_DAYS = 21_350_397

/** What an account of any provider type may say of a gMSA. What the directory knows itself need not stand here. */
export const ACCOUNT_OPTIONS = {
  samAccountName: {
    type: 'string',
    description: 'sAMAccountName of the gMSA, with its $.',
    pattern: SAM_ACCOUNT_NAME_PATTERN,
  },
  domain: {
    type: 'string',
    description: "DNS name of the account's own domain; in upper case it is the realm.",
    pattern: DOMAIN_PATTERN,
  },
  servicePrincipalNames: {
    type: 'array',
    description: "What acceptor keytabs are for. Left out: the directory's.",
    items: { type: 'string', pattern: SPN_PATTERN },
    maxItems: 1000,
  },
  enctypes: {
    type: 'array',
    description:
      "Encryption types of the keys. Left out: aes256 and aes128, as far as the directory's msDS-SupportedEncryptionTypes has them.",
    items: { enum: ENCTYPE_WORDS },
    minItems: 1,
  },
  salt: {
    description: 'In place of the salt that follows from domain and sAMAccountName: for a renamed account.',
    anyOf: [{ type: 'string', minLength: 1, maxLength: 1024 }, { type: 'null' }],
  },
  kvno: {
    type: 'integer',
    description: 'Key version number of the password, where neither directory nor record say it.',
    minimum: 1,
    maximum: 0xffff_ffff,
  },
  managedPasswordInterval: {
    type: 'integer',
    description: 'msDS-ManagedPasswordInterval in days, where the directory is not asked.',
    minimum: 1,
    maximum: MAX_INTERVAL_DAYS,
  },
} as const
