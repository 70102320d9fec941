import type { Static } from 'typebox'
import { ACCOUNT_NAME_PATTERN, NAMESPACE_PATTERN } from '../gmsa/account-name.ts'
import { PERMISSIONS } from '../gmsa/material.ts'
import { ACCOUNT_OPTIONS } from '../providers/account-options.ts'
import type { ObjectSchema, ProviderType } from '../providers/define.ts'
import { asRecord, own } from './config-document.ts'
import {
  ACCOUNT_PATTERN_PATTERN,
  duration,
  FINGERPRINT_PATTERN,
  LOG,
  mapping,
  PROVIDER_NAME_PATTERN,
  path,
  port,
  text,
} from './config-grammars.ts'

const match = {
  ...mapping('Which certificates the entry speaks of. All keys given must hold. * stands for any run of characters.', {
    uri: text('A URI of the subject alternative names. * does not cross a /.'),
    dns: text('A DNS name of the subject alternative names; case is ignored. * is one label.'),
    commonName: text("The subject's common name."),
    fingerprint256: {
      type: 'string',
      description: 'SHA-256 of the certificate in hex; case and colons are ignored.',
      pattern: FINGERPRINT_PATTERN,
    },
  }),
  minProperties: 1,
} as const

const client = {
  ...mapping('Who may have what.', {
    match,
    allow: { type: 'array', description: 'What may be read.', items: { enum: PERMISSIONS }, minItems: 1 },
    accounts: {
      type: 'array',
      description: 'Names of accounts. * stands for any run of characters.',
      items: { type: 'string', pattern: ACCOUNT_PATTERN_PATTERN },
      minItems: 1,
    },
  }),
  required: ['match', 'allow', 'accounts'],
} as const

const ccgClient = {
  ...mapping('The client certificate that the plug-in presents.', {
    certificate: path('Certificate, PEM.'),
    key: path('Private key, PEM.'),
  }),
  required: ['certificate', 'key'],
} as const

/** Every section whose options do not depend on the provider types. With a default, a section may be left out. */
const SECTIONS = {
  listen: {
    ...mapping('The data listener: mutual TLS, credentials.', {
      hosts: {
        type: 'array',
        description: 'Addresses to listen on. A missing ::1 is a warning, any other that fails an error.',
        items: text('An IP address or a host name.'),
        minItems: 1,
        maxItems: 16,
        default: ['127.0.0.1', '::1'],
      },
      port: port('TCP port. 0: the system chooses one for the first host, the others take the same.', 8443),
    }),
    default: {},
  },
  admin: {
    ...mapping('The admin listener: health, metrics, status page; plain HTTP, never a credential.', {
      host: { ...text('An IP address or a host name.'), default: '127.0.0.1' },
      port: port('TCP port. 0: chosen by the system.', 9464),
      statusPage: {
        description: 'Who may see the status page: clients on this machine, everyone (true), nobody (false).',
        anyOf: [{ const: 'loopback' }, { type: 'boolean' }],
        default: 'loopback',
      },
    }),
    default: {},
  },
  tls: {
    ...mapping('Certificates of the data listener: PEM files, read again when they change.', {
      certificate: path('The server certificate, its intermediates after it.'),
      key: path("The server certificate's private key."),
      clientCa: path('The authorities that client certificates are verified against. System roots are never used.'),
      crl: path('Certificate revocation lists of these authorities.'),
      crlExpired: {
        description: 'What to do once a revocation list has passed its nextUpdate: refuse all clients, or only warn.',
        enum: ['refuse', 'warn'],
        default: 'refuse',
      },
    }),
    required: ['certificate', 'key', 'clientCa'],
  },
  clients: {
    type: 'array',
    description:
      'What each client may read; the first entry that names the account decides. Without this section a verified certificate may read `credential` of the accounts named in `accounts`.',
    items: client,
  },
  ccg: {
    ...mapping('Host files for the CCG plug-in on Windows nodes.', {
      directory: path('The folder that holds one folder per namespace.'),
      namespace: {
        type: 'string',
        description: 'The folder of this service in it, and the first part of PluginInput.',
        pattern: NAMESPACE_PATTERN,
      },
      client: ccgClient,
    }),
    required: ['directory', 'namespace', 'client'],
  },
  cache: {
    ...mapping('How long answers of the stores are kept in memory.', {
      maxAge: duration('After this a record is read again.', '30s'),
      serveStale: duration('How much longer an old answer stands in for a store that is down. 0s: never.', '1h'),
    }),
    default: {},
  },
  keys: {
    ...mapping('Kerberos keys of gMSAs.', {
      keepPrevious: duration(
        'How long a key stays in acceptor keytabs after it left force: as long as tickets under it live, 10 hours in most domains, and five minutes.',
        '10h5m',
      ),
    }),
    default: {},
  },
  timeouts: {
    ...mapping('Deadlines.', {
      store: duration('For one read of a store.', '5s'),
      request: duration('For a request as a whole.', '10s'),
    }),
    default: {},
  },
  shutdown: {
    ...mapping('Stopping on SIGTERM.', {
      drainDelay: duration('Between not being ready any more and closing the listener.', '5s'),
      grace: duration('From the signal until whatever is still open is cut.', '25s'),
    }),
    default: {},
  },
  limits: {
    ...mapping('Safety nets.', {
      requestsPerSecond: {
        type: 'integer',
        description: 'Per client identity.',
        minimum: 1,
        maximum: 1_000_000,
        default: 500,
      },
    }),
    default: {},
  },
  log: LOG,
} as const

const REQUIRED = ['tls', 'providers', 'accounts'] as const

/** Without mutual TLS, which only Rancher mode can be told to do, no certificate is needed for the plug-in either. */
const CCG_WITHOUT_TLS = { ...SECTIONS.ccg, required: ['directory', 'namespace'] }

/** What every account may set, whatever the type of its provider. */
export const ANY_ACCOUNT = {
  type: 'object',
  properties: {
    provider: text('The name of an entry of `providers`.'),
    secret: text("The store's own name of the record, its path, URI or ARN. Left out: the account's name."),
    ...ACCOUNT_OPTIONS,
  },
  required: ['provider'],
} as const

/** An entry of `providers` whose type is not known. */
const ANY_PROVIDER = {
  type: 'object',
  properties: { type: { type: 'string', minLength: 1 } },
  required: ['type'],
} as const

const PROVIDERS = {
  type: 'object',
  description: 'The stores, by names of your choice.',
  propertyNames: { type: 'string', pattern: PROVIDER_NAME_PATTERN },
  minProperties: 1,
} as const

const ACCOUNTS = {
  type: 'object',
  description: "What may be asked for, by name. '*' stands for any other name and needs a `clients` section.",
  propertyNames: { type: 'string', pattern: `^\\*$|${ACCOUNT_NAME_PATTERN}`, maxLength: 253 },
  minProperties: 1,
} as const

type Sections = { readonly [K in keyof typeof SECTIONS]: Static<(typeof SECTIONS)[K]> }
type Section<K extends keyof Sections> = Required<Sections[K]>

/** The configuration *as written*, valid, with the defaults filled in and the paths absolute; durations are text. */
export interface ConfigFile {
  readonly listen: Section<'listen'>
  readonly admin: Section<'admin'>
  /** Absent only in Rancher mode with --disable-mtls. */
  readonly tls?: Sections['tls'] & Pick<Section<'tls'>, 'crlExpired'>
  readonly providers: Readonly<Record<string, { readonly type: string; readonly [option: string]: unknown }>>
  readonly accounts: Readonly<
    Record<string, { readonly provider: string; readonly secret?: string; readonly [option: string]: unknown }>
  >
  readonly clients?: Sections['clients']
  /** `client` is absent only where `tls` is. */
  readonly ccg?: Omit<Sections['ccg'], 'client'> & Partial<Pick<Sections['ccg'], 'client'>>
  readonly cache: Section<'cache'>
  readonly keys: Section<'keys'>
  readonly timeouts: Section<'timeouts'>
  readonly shutdown: Section<'shutdown'>
  readonly limits: Section<'limits'>
  readonly log: Section<'log'>
}

/** The schema of one entry of `providers`. */
function providerSchema({ type, summary, schema }: ProviderType): ObjectSchema {
  return {
    ...mapping(summary, { type: { const: type, description: summary }, ...schema.properties }),
    required: ['type', ...(schema.required ?? [])],
  }
}

/** The schema of an entry of `accounts` whose provider is of this type. */
function accountSchema({ accountSchema: { properties, required = [] } }: ProviderType): ObjectSchema {
  return {
    ...ANY_ACCOUNT,
    properties: { ...ANY_ACCOUNT.properties, ...properties },
    required: [...ANY_ACCOUNT.required, ...required],
    additionalProperties: false,
  }
}

/** The JSON Schema of configuration files (draft-07), for editors and for the reference. */
export function configSchema(types: readonly ProviderType[]): ObjectSchema {
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'Configuration of gmsa-account-provider',
    type: 'object',
    properties: {
      ...SECTIONS,
      providers: { ...PROVIDERS, additionalProperties: { anyOf: types.map(providerSchema) } },
      accounts: { ...ACCOUNTS, additionalProperties: { anyOf: types.map(accountSchema) } },
    },
    required: REQUIRED,
    additionalProperties: false,
  }
}

/**
 * The schema that this very document must fit: each entry of `providers` and `accounts` gets the schema of its own
 * type, so that an error speaks of that type's options. Entries of an unknown type or provider are left to
 * config-rules.ts. `tls` and `ccg.client` may be left out only where `withoutTls` says so.
 */
export function schemaOf(document: unknown, types: readonly ProviderType[], withoutTls = false): ObjectSchema {
  const providers = asRecord(asRecord(document)['providers'])
  const accounts = asRecord(asRecord(document)['accounts'])
  // One object for each type: the validator is compiled once for all entries that share it.
  const schemas = new Map(
    types.map((type) => [type.type, { provider: providerSchema(type), account: accountSchema(type) }] as const),
  )
  const schemasFor = (provider: unknown) => {
    const { type } = asRecord(provider)
    return typeof type === 'string' ? schemas.get(type) : undefined
  }
  return {
    type: 'object',
    properties: {
      ...SECTIONS,
      ...(withoutTls ? { ccg: CCG_WITHOUT_TLS } : {}),
      providers: withEntries(PROVIDERS, providers, (options) => schemasFor(options)?.provider ?? ANY_PROVIDER),
      accounts: withEntries(ACCOUNTS, accounts, (options) => {
        return schemasFor(own(providers, asRecord(options)['provider']))?.account ?? ANY_ACCOUNT
      }),
    },
    required: withoutTls ? REQUIRED.filter((name) => name !== 'tls') : REQUIRED,
    additionalProperties: false,
  }
}

/** A schema for each entry with a name that may be; what `propertyNames` refuses gets none. */
function withEntries(
  schema: typeof PROVIDERS | typeof ACCOUNTS,
  entries: Readonly<Record<string, unknown>>,
  schemaFor: (options: unknown) => ObjectSchema,
): ObjectSchema {
  const name = new RegExp(schema.propertyNames.pattern)
  const named = Object.entries(entries).filter(([key]) => name.test(key))
  return { ...schema, properties: Object.fromEntries(named.map(([key, options]) => [key, schemaFor(options)])) }
}
