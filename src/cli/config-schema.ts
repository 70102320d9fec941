import {
  type Static,
  type TObject,
  type TObjectOptions,
  type TProperties,
  type TSchema,
  type TString,
  Type,
} from 'typebox'
import { DURATION_PATTERN } from '../base/duration.ts'
import { ACCOUNT_NAME_PATTERN } from '../gmsa/account-name.ts'
import { PERMISSIONS } from '../gmsa/material.ts'
import type { ProviderType } from '../providers/define.ts'
import { asRecord, own } from './config-document.ts'

/** Names of providers become metric labels and segments of environment variables. */
const PROVIDER_NAME_PATTERN = '^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$'
/** A DNS-1123 label, as Kubernetes names its namespaces: `a`, `0a` and two letters are names too. */
export const NAMESPACE_PATTERN = '^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$'
/** The SHA-256 of a certificate: 32 bytes in hex, with or without colons. */
const FINGERPRINT_PATTERN = '^[0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2}){31}$'
/** An account's name in which `*` stands for any run of characters. */
const ACCOUNT_PATTERN_PATTERN = '^[a-z0-9.*-]{1,253}$'

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
  [ACCOUNT_PATTERN_PATTERN, 'an account name, in which * stands for any run of characters'],
])

const closed = { additionalProperties: false }
const text = (description: string, options = {}) => Type.String({ description, minLength: 1, ...options })
const path = (description: string, options = {}) => text(description, { format: 'path', ...options })
const port = (description: string, value: number) =>
  Type.Integer({ description, minimum: 0, maximum: 65_535, default: value })
const duration = (description: string, value: string) =>
  Type.String({ description, pattern: DURATION_PATTERN, default: value })
const section = <P extends TProperties>(description: string, properties: P, options = {}) =>
  Type.Object(properties, { description, ...closed, ...options })

/** With a default of `{}`, a section that is left out gets the defaults of its options. */
const optionalSection = <P extends TProperties>(description: string, properties: P) =>
  Type.Optional(section(description, properties, { default: {} }))

const listen = optionalSection('The data listener: mutual TLS, credentials.', {
  hosts: Type.Optional(
    Type.Array(text('An IP address or a host name.'), {
      description: 'Addresses to listen on. A missing ::1 is a warning, any other that fails an error.',
      minItems: 1,
      maxItems: 16,
      default: ['127.0.0.1', '::1'],
    }),
  ),
  port: Type.Optional(port('TCP port. 0: the system chooses one for the first host, the others take the same.', 8443)),
})

const admin = optionalSection('The admin listener: health, metrics, status page; plain HTTP, never a credential.', {
  host: Type.Optional(text('An IP address or a host name.', { default: '127.0.0.1' })),
  port: Type.Optional(port('TCP port. 0: chosen by the system.', 9464)),
  statusPage: Type.Optional(
    Type.Union([Type.Literal('loopback'), Type.Boolean()], {
      description: 'Who may see the status page: clients on this machine, everyone (true), nobody (false).',
      default: 'loopback',
    }),
  ),
})

const tls = section('Certificates of the data listener: PEM files, read again when they change.', {
  certificate: path('The server certificate, its intermediates after it.'),
  key: path("The server certificate's private key."),
  clientCa: path('The authorities that client certificates are verified against. System roots are never used.'),
  crl: Type.Optional(path('Certificate revocation lists of these authorities.')),
  crlExpired: Type.Optional(
    Type.Enum(['refuse', 'warn'], {
      description: 'What to do once a revocation list has passed its nextUpdate: refuse all clients, or only warn.',
      default: 'refuse',
    }),
  ),
})

const match = section(
  'Which certificates the entry speaks of. All keys given must hold. * stands for any run of characters.',
  {
    uri: Type.Optional(text('A URI of the subject alternative names. * does not cross a /.')),
    dns: Type.Optional(text('A DNS name of the subject alternative names; case is ignored. * is one label.')),
    commonName: Type.Optional(text("The subject's common name.")),
    fingerprint256: Type.Optional(
      Type.String({
        description: 'SHA-256 of the certificate in hex; case and colons are ignored.',
        pattern: FINGERPRINT_PATTERN,
      }),
    ),
  },
  { minProperties: 1 },
)

const client = section('Who may have what.', {
  match,
  allow: Type.Array(Type.Enum([...PERMISSIONS]), { description: 'What may be read.', minItems: 1 }),
  accounts: Type.Array(Type.String({ pattern: ACCOUNT_PATTERN_PATTERN }), {
    description: 'Names of accounts. * stands for any run of characters.',
    minItems: 1,
  }),
})

const ccgOptions = {
  directory: path('The folder that holds one folder per namespace.'),
  namespace: Type.String({
    description: 'The folder of this service in it, and the first part of PluginInput.',
    pattern: NAMESPACE_PATTERN,
  }),
}
const ccgClient = section('The client certificate that the plug-in presents.', {
  certificate: path('Certificate, PEM.'),
  key: path('Private key, PEM.'),
})
const ccg = section('Host files for the CCG plug-in on Windows nodes.', { ...ccgOptions, client: ccgClient })

/** Without mutual TLS, which only Rancher mode can be told to do. */
const WITHOUT_TLS = {
  tls: Type.Optional(tls),
  ccg: Type.Optional(Type.Object({ ...ccgOptions, client: Type.Optional(ccgClient) }, closed)),
}

/** Every section whose options do not depend on the provider types. */
const SECTIONS = {
  listen,
  admin,
  tls,
  clients: Type.Optional(
    Type.Array(client, {
      description:
        'What each client may read; the first entry that names the account decides. Without this section a verified certificate may read `credential` of the accounts named in `accounts`.',
    }),
  ),
  ccg: Type.Optional(ccg),
  cache: optionalSection('How long answers of the stores are kept in memory.', {
    maxAge: Type.Optional(duration('After this a record is read again.', '30s')),
    serveStale: Type.Optional(
      duration('How much longer an old answer stands in for a store that is down. 0s: never.', '1h'),
    ),
  }),
  timeouts: optionalSection('Deadlines.', {
    store: Type.Optional(duration('For one read of a store.', '5s')),
    request: Type.Optional(duration('For a request as a whole.', '10s')),
  }),
  shutdown: optionalSection('Stopping on SIGTERM.', {
    drainDelay: Type.Optional(duration('Between not being ready any more and closing the listener.', '5s')),
    grace: Type.Optional(duration('From the signal until whatever is still open is cut.', '25s')),
  }),
  limits: optionalSection('Safety nets.', {
    requestsPerSecond: Type.Optional(
      Type.Integer({ description: 'Per client identity.', minimum: 1, maximum: 1_000_000, default: 500 }),
    ),
  }),
  log: optionalSection('The log on standard error.', {
    level: Type.Optional(
      Type.Enum(['error', 'warn', 'info', 'debug', 'trace'], {
        description: 'The least that is logged.',
        default: 'info',
      }),
    ),
  }),
}

/** What every account may set, whatever the type of its provider. */
export const ACCOUNT_OPTIONS = {
  provider: text('The name of an entry of `providers`.'),
  secret: Type.Optional(
    text("The store's own name of the record, its path, URI or ARN. Left out: the account's name."),
  ),
}

const PROVIDERS = {
  description: 'The stores, by names of your choice.',
  minProperties: 1,
  propertyNames: Type.String({ pattern: PROVIDER_NAME_PATTERN }),
}

const ACCOUNTS = {
  description: "What may be asked for, by name. '*' stands for any other name and needs a `clients` section.",
  minProperties: 1,
  propertyNames: Type.String({ pattern: `^\\*$|${ACCOUNT_NAME_PATTERN}`, maxLength: 253 }),
}

const recordOf = (values: TSchema, options: TObjectOptions) => Type.Record(Type.String(), values, options)

type Sections = Static<TObject<typeof SECTIONS>>
type Section<K extends keyof Sections> = Required<NonNullable<Sections[K]>>

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
  readonly clients?: NonNullable<Sections['clients']>
  /** `client` is absent only where `tls` is. */
  readonly ccg?: Omit<NonNullable<Sections['ccg']>, 'client'> & Partial<Pick<NonNullable<Sections['ccg']>, 'client'>>
  readonly cache: Section<'cache'>
  readonly timeouts: Section<'timeouts'>
  readonly shutdown: Section<'shutdown'>
  readonly limits: Section<'limits'>
  readonly log: Section<'log'>
}

/** The schema of one entry of `providers`. */
export function providerSchema(type: ProviderType): TObject {
  return Type.Object(
    { type: Type.Literal(type.type, { description: type.summary }), ...type.schema.properties },
    { ...closed, description: type.summary },
  )
}

/** The schema of an entry of `accounts` whose provider is of this type. */
export function accountSchema(type: ProviderType): TObject {
  return Type.Object({ ...ACCOUNT_OPTIONS, ...type.accountSchema.properties }, closed)
}

/** The JSON Schema of configuration files, for editors and for the reference. */
export function configSchema(types: readonly ProviderType[]): TObject {
  return Type.Object(
    {
      ...SECTIONS,
      providers: recordOf(Type.Union(types.map(providerSchema)), PROVIDERS),
      accounts: recordOf(Type.Union(types.map(accountSchema)), ACCOUNTS),
    },
    {
      ...closed,
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      title: 'Configuration of gmsa-account-provider',
    },
  )
}

/**
 * The schema that this very document must fit: each entry of `providers` and `accounts` gets the schema of its own
 * type, so that an error speaks of that type's options. Entries of an unknown type or provider are left to
 * config-rules.ts. `tls` and `ccg.client` may be left out only where `withoutTls` says so.
 */
export function schemaOf(document: unknown, types: readonly ProviderType[], withoutTls = false): TObject {
  const providers = asRecord(asRecord(document)['providers'])
  const accounts = asRecord(asRecord(document)['accounts'])
  const typeOf = (provider: unknown) => types.find(({ type }) => type === asRecord(provider)['type'])
  return Type.Object(
    {
      ...SECTIONS,
      ...(withoutTls ? WITHOUT_TLS : {}),
      providers: Type.Object(
        mapValues(PROVIDERS, providers, (options) => {
          const type = typeOf(options)
          return type ? providerSchema(type) : Type.Object({ type: Type.String({ minLength: 1 }) })
        }),
        PROVIDERS,
      ),
      accounts: Type.Object(
        mapValues(ACCOUNTS, accounts, (options) => {
          const type = typeOf(own(providers, asRecord(options)['provider']))
          return type ? accountSchema(type) : Type.Object(ACCOUNT_OPTIONS)
        }),
        ACCOUNTS,
      ),
    },
    closed,
  )
}

/** A schema for each entry with a name that may be; what `propertyNames` refuses gets none. */
function mapValues(
  { propertyNames }: { readonly propertyNames: TString },
  entries: Readonly<Record<string, unknown>>,
  schema: (options: unknown) => TObject,
): Record<string, TObject> {
  const name = new RegExp(String(asRecord(propertyNames)['pattern']))
  return Object.fromEntries(
    Object.entries(entries).flatMap(([key, options]) => (name.test(key) ? [[key, schema(options)]] : [])),
  )
}
