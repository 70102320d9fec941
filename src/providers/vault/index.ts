import { defineProvider } from '../define.ts'
import { accountSchema, schema } from './schema.ts'

/** The KV secrets engine of HashiCorp Vault and OpenBao, versions 1 and 2. */
export const vault = defineProvider({
  type: 'vault',
  summary: 'HashiCorp Vault and OpenBao: the KV secrets engine, versions 1 and 2.',
  schema,
  accountSchema,
  open: async (...given) => (await import('./open.ts')).openVault(...given),
})
