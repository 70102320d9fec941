import type { Static } from 'typebox'
import { ADDRESS_PATTERN, NAMES_PATTERN } from '../../base/patterns.ts'

const text = (description: string) => ({ type: 'string', minLength: 1, description }) as const
const path = (description: string) => ({ type: 'string', minLength: 1, format: 'path', description }) as const
const names = (description: string) => ({ ...text(description), pattern: NAMES_PATTERN }) as const

export type Method = 'kubernetes' | 'approle' | 'jwt' | 'cert' | 'token'

/** What each method takes beside `mount`, and what it needs of that. */
const METHODS: Readonly<Record<Method, { readonly takes: readonly string[]; readonly needs: readonly string[] }>> = {
  kubernetes: { takes: ['role', 'tokenFile'], needs: ['role'] },
  approle: { takes: ['roleId', 'roleIdFile', 'secretIdFile'], needs: ['secretIdFile'] },
  jwt: { takes: ['role', 'tokenFile'], needs: ['role', 'tokenFile'] },
  cert: { takes: ['certificate', 'key', 'name'], needs: ['certificate', 'key'] },
  token: { takes: ['tokenFile'], needs: ['tokenFile'] },
}

const authOptions = {
  method: {
    enum: ['kubernetes', 'approle', 'jwt', 'cert', 'token'],
    description: 'The auth method: a service account, an AppRole, a JWT, a client certificate, or a token in a file.',
  },
  mount: names("Where the method is mounted below auth/. Left out: under the method's name."),
  role: text('With `kubernetes` and `jwt`: the role to log in to.'),
  tokenFile: path(
    'File with the JWT, read again for each log-in; with `token` the token itself, read again for each request. With `kubernetes` it may be left out: /var/run/secrets/kubernetes.io/serviceaccount/token.',
  ),
  roleId: text("With `approle`: the role's ID."),
  roleIdFile: path('With `approle`: a file that holds it, in place of `roleId`.'),
  secretIdFile: path('With `approle`: file with the secret ID, read again for each log-in.'),
  certificate: path('With `cert`: the client certificate, PEM; it is shown on all connections.'),
  key: path("With `cert`: the certificate's private key, PEM."),
  name: text('With `cert`: the role to log in to. Left out: any that fits.'),
} as const

/**
 * In draft-07 words, with `else` alone: what goes with which method. Unless it is another method, what it needs must be
 * there, and what only others take has no place.
 */
function ruleOf(method: Method): object {
  const { takes, needs } = METHODS[method]
  const others = Object.keys(authOptions).filter((name) => !['method', 'mount'].includes(name))
  const properties = Object.fromEntries(others.map((name) => [name, takes.includes(name)]))
  return { if: isNot(method), else: { type: 'object', properties, required: needs } }
}

function isNot(method: Method): object {
  return { type: 'object', properties: { method: { not: { const: method } } } }
}

const has = (name: string) => ({ type: 'object', properties: { [name]: true }, required: [name] }) as const
const RULES: readonly object[] = [
  ...(Object.keys(METHODS) as Method[]).map(ruleOf),
  { if: { anyOf: [isNot('approle'), has('roleIdFile')] }, else: has('roleId') },
  { if: { not: has('roleIdFile') }, else: { type: 'object', properties: { roleId: false } } },
]

export const schema = {
  type: 'object',
  properties: {
    address: {
      ...text('Where it listens: `https://bao.example.com:8200`, a path behind it too. Plain http for loopback alone.'),
      pattern: ADDRESS_PATTERN,
    },
    namespace: names('Namespace, with those above it: `team/eu`. Sent with each request, log-in included.'),
    mount: names('Where the KV secrets engine is mounted.'),
    kvVersion: { enum: [1, 2], description: 'Version of that engine. Left out: it is asked.' },
    prefix: names('Put before the name of each secret: with `gmsa` the account `web` is read at `gmsa/web`.'),
    ca: path("PEM file of the CA of its certificate. Left out: the system's. Read again for each request."),
    auth: {
      type: 'object',
      description: 'How to log on: the method, and what that method takes.',
      properties: authOptions,
      required: ['method'],
      additionalProperties: false,
      allOf: RULES,
    },
    allowReadable: {
      type: 'boolean',
      default: false,
      description: 'Accept secret files that group or others can read, which are otherwise refused on a writable disk.',
    },
  },
  required: ['address', 'mount', 'auth'],
  additionalProperties: false,
} as const

export type Options = Static<typeof schema>
export type AuthOptions = Options['auth']

export const accountSchema = {
  type: 'object',
  properties: {
    version: {
      description: 'Reads this version and no newer one; with KV version 2 alone. Left out or null: the newest.',
      anyOf: [{ type: 'integer', minimum: 1, maximum: 0x7fff_ffff }, { type: 'null' }],
    },
  },
  additionalProperties: false,
} as const
