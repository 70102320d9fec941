import type { Static } from 'typebox'

const text = (description: string) => ({ type: 'string', minLength: 1, description }) as const
const path = (description: string) => ({ ...text(description), format: 'path' }) as const

/** What each way needs, and what it may have besides. */
export const METHODS = {
  'managed-identity': { required: [], optional: ['clientId', 'objectId', 'resourceId'] },
  'workload-identity': { required: [], optional: ['clientId', 'tenantId', 'tokenFile'] },
  'client-secret': { required: ['tenantId', 'clientId', 'clientSecretFile'], optional: [] },
  'client-certificate': { required: ['tenantId', 'clientId', 'certificate'], optional: [] },
} as const

const auth = {
  type: 'object',
  description: 'As whom to ask. Left out: environment, workload identity, managed identity, in this order.',
  properties: {
    method: {
      enum: ['managed-identity', 'workload-identity', 'client-secret', 'client-certificate'],
      description: 'How this service shows who it is.',
    },
    clientId: text('Client id of the identity or application.'),
    objectId: text('Object id of a user-assigned managed identity, in place of `clientId`.'),
    resourceId: text('Resource id of a user-assigned managed identity, in place of `clientId`.'),
    tenantId: text("The application's tenant."),
    tokenFile: path('File of the token that is exchanged. Left out: as AZURE_FEDERATED_TOKEN_FILE says.'),
    clientSecretFile: path("File that holds the application's client secret, read before each call."),
    certificate: path('PEM file with the certificate and the private key, read before each call.'),
  },
  required: ['method'],
  additionalProperties: false,
  allOf: Object.entries(METHODS).map(([method, { required }]) => ({
    if: { type: 'object', properties: { method: { not: { const: method } } } },
    else: { type: 'object', properties: Object.fromEntries(required.map((member) => [member, true])), required },
  })),
} as const

export const schema = {
  type: 'object',
  properties: {
    vault: text('Name of the vault, or its address where that does not follow from name and cloud.'),
    otherVaults: {
      type: 'array',
      items: text('A name or an address.'),
      maxItems: 64,
      description: 'Further vaults that an account may name in the URI of its secret.',
    },
    cloud: {
      enum: ['public', 'us-government', 'china'],
      default: 'public',
      description: 'Which Azure: it decides on addresses and on the audience of tokens.',
    },
    auth,
    authority: text('Address of the Entra endpoint in place of the public one: a private cloud.'),
    ca: path("PEM file of a further CA, beside the system's. Read before each call."),
  },
  required: ['vault'],
  additionalProperties: false,
} as const

export const accountSchema = {
  type: 'object',
  properties: {
    version: {
      anyOf: [{ type: 'string', pattern: '^[A-Za-z0-9]{1,64}$' }, { type: 'null' }],
      default: null,
      description: 'Version of the secret to stay with. null: the latest.',
    },
  },
  additionalProperties: false,
} as const

export type Options = Static<typeof schema>
export type Auth = Static<typeof auth>
