import { defineProvider } from '../define.ts'
import { problemsOf } from './account.ts'
import { accountSchema, schema } from './schema.ts'

/** No directory at all: managed passwords derived from the KDS root keys of the forest and the time. */
export const kdsRootKey = defineProvider({
  type: 'kds-root-key',
  summary: 'KDS root keys: the managed passwords of gMSAs, derived without a domain controller.',
  schema,
  accountSchema,
  checkAccount: problemsOf,
  open: async (...given) => (await import('./open.ts')).openKdsRootKey(...given),
})
