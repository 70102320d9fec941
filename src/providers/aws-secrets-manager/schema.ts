import type { Static } from 'typebox'

/** Options of the provider. */
export const schema = {
  type: 'object',
  properties: {
    region: {
      type: 'string',
      pattern: '^[a-z]{2,12}(?:-[a-z]{1,12}){1,3}-[0-9]{1,2}$',
      description: 'Region of the secrets, as in eu-west-1. Left out: as AWS_REGION or the AWS profile says.',
    },
    endpoint: {
      type: 'string',
      minLength: 1,
      description:
        'Address to ask in place of the public one: a VPC endpoint, an emulator. https, or http on loopback alone.',
    },
    ca: {
      type: 'string',
      minLength: 1,
      format: 'path',
      description: "PEM file of a further CA, beside the system's, for `endpoint`. Read for each call.",
    },
  },
  additionalProperties: false,
} as const

/** What an account may set. */
export const accountSchema = {
  type: 'object',
  properties: {
    version: {
      anyOf: [{ type: 'string', pattern: '^[A-Za-z0-9-]{32,64}$' }, { type: 'null' }],
      default: null,
      description: 'VersionId to stay with. null: the version labelled AWSCURRENT.',
    },
  },
  additionalProperties: false,
} as const

export type Options = Static<typeof schema>
