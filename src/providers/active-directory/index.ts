import { defineProvider } from '../define.ts'
import { accountSchema, schema } from './schema.ts'

/** The directory itself: gMSA passwords over LDAP. */
export const activeDirectory = defineProvider({
  type: 'active-directory',
  summary: 'Active Directory: the managed passwords of gMSAs, read over LDAPS or StartTLS.',
  schema,
  accountSchema,
  open: async (...given) => (await import('./open.ts')).openActiveDirectory(...given),
})
