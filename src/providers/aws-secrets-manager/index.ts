import { defineProvider } from '../define.ts'
import { accountSchema, schema } from './schema.ts'

/** Secrets of AWS Secrets Manager, each a record as JSON, as text or as bytes. */
export const awsSecretsManager = defineProvider({
  type: 'aws-secrets-manager',
  summary: 'AWS Secrets Manager: a secret for each account, read with the credentials that AWS gives the machine.',
  schema,
  accountSchema,
  open: async (...given) => (await import('./open.ts')).openSecretsManager(...given),
})
