import type { Static } from 'typebox'
import { BASE64_PATTERN, SID_PATTERN, TIME_PATTERN } from '../../gmsa/name-patterns.ts'

const rootKeys = {
  type: 'object',
  description: 'Where the root keys of the forest are, in one of two ways: `file`; or `provider` and `account`.',
  properties: {
    file: {
      type: 'string',
      minLength: 1,
      format: 'path',
      description: 'A file with all of them: JSON, LDIF or what samba-tool prints. Read for each derivation.',
    },
    provider: {
      type: 'string',
      minLength: 1,
      description: 'The provider that holds a record with the member `rootKeys`.',
    },
    account: {
      type: 'string',
      minLength: 1,
      description: "The record's account there; it need not stand in `accounts`.",
    },
  },
  additionalProperties: false,
  minProperties: 1,
  dependencies: { provider: ['account'], account: ['provider'] },
  not: { type: 'object', properties: { file: true, provider: true }, required: ['file', 'provider'] },
} as const

export const schema = {
  type: 'object',
  properties: {
    rootKeys,
    allowReadable: {
      type: 'boolean',
      default: false,
      description: 'Accept files that group or others can read, which are otherwise refused on a writable file system.',
    },
  },
  required: ['rootKeys'],
  additionalProperties: false,
} as const

export type Options = Static<typeof schema>

export const accountSchema = {
  type: 'object',
  properties: {
    sid: { type: 'string', description: "The account's objectSid.", pattern: SID_PATTERN },
    managedPasswordId: {
      type: 'string',
      description: "The account's msDS-ManagedPasswordId, in base64; `kvno` is then that of the same password.",
      pattern: BASE64_PATTERN,
      maxLength: 8192,
    },
    whenCreated: {
      type: 'string',
      description: "The account's whenCreated. At least one of the two; both give exactly the directory's answer.",
      pattern: TIME_PATTERN,
    },
    kvnoKeytab: {
      type: 'string',
      minLength: 1,
      format: 'path',
      description: "A keytab of the account that the directory's tools made, to learn the kvno from.",
    },
  },
  required: ['domain', 'sid', 'managedPasswordInterval'],
  additionalProperties: false,
} as const
