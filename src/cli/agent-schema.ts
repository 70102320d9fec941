import type { Static } from 'typebox'
import { LEASE_GMSA_PATTERN, LEASE_ID_PATTERN } from '../agent/lease-names.ts'
import { DURATION_PATTERN } from '../base/duration.ts'
import { ACCOUNT_NAME_PATTERN } from '../gmsa/account-name.ts'
import { duration, FILE_MODE_PATTERN, LOG, mapping, path, port, SERVER_PATTERN, text } from './config-grammars.ts'

/** Signals by which programs are told to read their files again, or to end. */
const SIGNALS = ['HUP', 'USR1', 'USR2', 'INT', 'TERM'] as const

const onChange = mapping('What happens after the file has changed: a command, or a signal.', {
  command: {
    type: 'array',
    description: 'A program and its arguments, without a shell in between.',
    items: text('The program, or an argument.'),
    minItems: 1,
    maxItems: 100,
  },
  timeout: duration('When the command, and all that it started, is ended.', '30s'),
  signal: { description: 'The signal, in place of a command.', enum: SIGNALS },
  pidFile: path('The file with the number of the process that gets the signal.'),
})

const id = (what: string) => ({
  description: `${what}, by name (of this system's own files) or number. Left out: as the system makes new files.`,
  anyOf: [
    { type: 'integer', minimum: 0, maximum: 0xffff_fffe },
    { type: 'string', minLength: 1 },
  ],
})

const FILE = {
  file: path('Where it stands. The folder must be there; a link is followed.'),
  mode: {
    type: 'string',
    description: 'Who may read and write it.',
    pattern: FILE_MODE_PATTERN,
    default: '0600',
  },
  owner: id('Whose it is'),
  group: id('Its group'),
  onChange,
} as const

const acceptorKeytab = {
  ...mapping('A keytab with which a service takes tickets: previous keys, the one in force, the next one in time.', {
    ...FILE,
    principals: {
      type: 'array',
      description:
        "Only these of the account's principals, found whatever their case and written as here. Left out: its SPNs, or sAMAccountName@REALM without any.",
      items: text('A principal.'),
      maxItems: 1000,
      default: [],
    },
    keepPrevious: duration(
      'How long a key stays in the file after it left force: as long as tickets under it live, and five minutes.',
      '10h5m',
    ),
  }),
  required: ['file'],
} as const

const initiatorKeytab = {
  ...mapping('A keytab to log on with: sAMAccountName@REALM and the key in force.', FILE),
  required: ['file'],
} as const

const ccache = mapping(
  "A credential cache with a ticket-granting ticket, got with the account's key and replaced before half its life.",
  {
    ...FILE,
    lease: {
      type: 'string',
      description: 'In place of `file`: the lease in whose folder the ticket stands, as tasks of ECS look for it.',
      pattern: LEASE_ID_PATTERN,
    },
    gmsa: {
      type: 'string',
      description:
        "The gMSA's name without its `$`, as its folder in the lease is called. Left out: how the service calls it.",
      pattern: LEASE_GMSA_PATTERN,
    },
    lifetime: duration('How long the ticket is to live; the KDC may give less.', '10h'),
    renewLifetime: {
      type: 'string',
      description: 'How long it is to be renewable, for clients that ask for it. Left out: not at all.',
      pattern: DURATION_PATTERN,
    },
    forwardable: { type: 'boolean', description: 'Whether it may be forwarded.', default: false },
  },
)

/** What stands under each name of `accounts`. */
const ACCOUNT = mapping('One gMSA, and the files that are kept for it.', {
  account: {
    type: 'string',
    description: 'How the service calls it. Left out: the name here.',
    pattern: ACCOUNT_NAME_PATTERN,
    maxLength: 253,
  },
  acceptorKeytab,
  initiatorKeytab,
  ccache,
})

const SECTIONS = {
  servers: {
    type: 'array',
    description: 'Addresses of the service: the next is asked when one does not answer.',
    items: { type: 'string', pattern: SERVER_PATTERN },
    minItems: 1,
    maxItems: 16,
  },
  tls: {
    ...mapping('Mutual TLS with the service: PEM files, read again for each connection.', {
      certificate: path("The agent's client certificate, its intermediates after it."),
      key: path('Its private key.'),
      ca: path("The authorities that the service's certificate is verified against. System roots are never used."),
    }),
    required: ['certificate', 'key', 'ca'],
  },
  timeout: duration('For an answer, all addresses together.', '9s'),
  wait: duration(
    'How long the service may hold a question until there is something new, 5m at most. 0s: never; then changes are seen when they are due.',
    '5m',
  ),
  checkInterval: duration('The service is asked at least this often.', '1h'),
  grace: duration('Without an answer the agent is not ready so long after new keys were due.', '5m'),
  status: {
    ...mapping('The listener for health, metrics and `agent status`; plain HTTP, nothing secret.', {
      host: { ...text('An IP address or a host name.'), default: '127.0.0.1' },
      port: port('TCP port. 0: chosen by the system.', 9465),
    }),
    default: {},
  },
  leases: {
    ...mapping("Tickets in the layout of Amazon's credentials-fetcher: `<directory>/<lease>/<gMSA>/krb5cc`.", {
      directory: path(
        'The folder of all leases, such as /var/credentials-fetcher/krbdir. It is made; the one above has to be there.',
      ),
    }),
    required: ['directory'],
  },
  textfile: path("A file for the metrics, for node_exporter's textfile collector."),
  log: LOG,
} as const

const REQUIRED = ['servers', 'tls', 'accounts'] as const

/** One account's entry as written, valid, with the defaults filled in and the paths absolute. */
export type AccountEntry = Static<typeof ACCOUNT>
export type HookEntry = Static<typeof onChange>

type Sections = { readonly [K in keyof typeof SECTIONS]: Static<(typeof SECTIONS)[K]> }

/** The same of the file as a whole, but for `accounts`. */
export interface AgentFile extends Omit<Sections, 'textfile' | 'leases' | 'status' | 'log'> {
  readonly textfile?: string
  readonly leases?: Sections['leases']
  readonly status: Required<Sections['status']>
  readonly log: Required<Sections['log']>
}

/** The schema that a file with accounts of these names must fit. */
export function agentSchema(names: readonly string[]) {
  const entries = Object.fromEntries(names.map((name) => [name, ACCOUNT] as const))
  return {
    type: 'object',
    properties: {
      ...SECTIONS,
      accounts: {
        type: 'object',
        description: 'The gMSAs, by names of your choice.',
        propertyNames: { type: 'string', pattern: ACCOUNT_NAME_PATTERN, maxLength: 253 },
        properties: entries,
        minProperties: 1,
      },
    },
    required: REQUIRED,
    additionalProperties: false,
  } as const
}

/** For the documentation: the options of the file, and those of an account. */
export const AGENT_OPTIONS = { type: 'object', properties: SECTIONS, required: REQUIRED } as const
export const AGENT_ACCOUNT_OPTIONS = ACCOUNT
