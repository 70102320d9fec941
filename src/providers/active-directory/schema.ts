import type { Static } from 'typebox'
import { DURATION_PATTERN } from '../../base/duration.ts'
import { DOMAIN_PATTERN } from '../../gmsa/name-patterns.ts'

const text = (description: string) => ({ type: 'string', minLength: 1, description }) as const
const path = (description: string) => ({ type: 'string', minLength: 1, format: 'path', description }) as const
/** In draft-07 words: when one of the members is there, so are the others. */
const together = (...members: readonly string[]) =>
  Object.fromEntries(members.map((member) => [member, members.filter((each) => each !== member)]))
const either = (one: string, other: string) =>
  ({ type: 'object', properties: { [one]: true, [other]: true }, required: [one, other] }) as const

const bind = {
  type: 'object',
  description:
    'How to log on, in one of three ways: `provider` and `account`; `username`, `domainName` and `passwordFile`; or `certificate` and `key`.',
  properties: {
    provider: text('The provider that holds the credential of the impersonation account.'),
    account: text("The account's name there; it need not stand in `accounts`."),
    username: text('The impersonation account, with `domainName` and `passwordFile`.'),
    domainName: text('Its domain: the DNS name, or the NetBIOS name.'),
    passwordFile: path('File that holds its password, read again for each log-on.'),
    certificate: path('Client certificate, PEM: log-on by TLS (SASL EXTERNAL).'),
    key: path("The certificate's private key, PEM."),
  },
  additionalProperties: false,
  minProperties: 2,
  dependencies: {
    ...together('provider', 'account'),
    ...together('username', 'domainName', 'passwordFile'),
    ...together('certificate', 'key'),
  },
  not: {
    anyOf: [either('provider', 'username'), either('provider', 'certificate'), either('username', 'certificate')],
  },
} as const

export const schema = {
  type: 'object',
  properties: {
    domain: {
      type: 'string',
      description: 'DNS name of the domain that the accounts belong to.',
      pattern: DOMAIN_PATTERN,
    },
    servers: {
      type: 'array',
      description:
        'Its domain controllers, the best first: names as in their certificates, or addresses. Left out: found by SRV records.',
      items: { ...text('A host name or an IP address.'), pattern: '^[A-Za-z0-9_.:-]{1,253}$' },
      minItems: 1,
      maxItems: 64,
    },
    site: {
      ...text('Active Directory site whose controllers come first; only where `servers` is left out.'),
      pattern: '^[A-Za-z0-9_-]{1,63}$',
    },
    transport: {
      description: 'TLS from the start, or StartTLS on the plain port.',
      enum: ['ldaps', 'starttls'],
      default: 'ldaps',
    },
    port: {
      type: 'integer',
      minimum: 1,
      maximum: 65_535,
      description: 'TCP port. Left out: 636 for `ldaps`, 389 for `starttls`.',
    },
    ca: path("PEM file of the CA of the controllers' certificates. Left out: the system's. Read for each connection."),
    bind,
    searchBase: text('Distinguished name to search below. Left out: that of the domain.'),
    timeout: {
      type: 'string',
      pattern: DURATION_PATTERN,
      default: '5s',
      description: 'For one answer, all controllers asked for it together; at most `60s`.',
    },
  },
  required: ['domain', 'bind'],
  additionalProperties: false,
} as const

export type Options = Static<typeof schema>

/** What an account may say of a gMSA stands in account-options.ts, for all types of providers alike. */
export const accountSchema = { type: 'object', properties: {}, additionalProperties: false } as const
