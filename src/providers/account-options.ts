import { DOMAIN_PATTERN, SAM_ACCOUNT_NAME_PATTERN, SPN_PATTERN } from '../gmsa/name-patterns.ts'
import { ENCTYPE_WORDS } from '../kerberos/enctype.ts'

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
