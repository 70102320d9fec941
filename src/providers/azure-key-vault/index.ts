import { defineProvider } from '../define.ts'
import { accountSchema, schema } from './schema.ts'

/** Secrets of Azure Key Vault, each a record as JSON or as text. */
export const azureKeyVault = defineProvider({
  type: 'azure-key-vault',
  summary: 'Azure Key Vault: a secret for each account, read as a managed identity, a workload or an application.',
  schema,
  accountSchema,
  open: async (...given) => (await import('./open.ts')).openKeyVault(...given),
})
