import { defineProvider } from '../define.ts'
import { schema } from './schema.ts'

/** Secrets of one namespace: a GET for each read, and no right but that. */
export const kubernetes = defineProvider({
  type: 'kubernetes',
  summary: 'Kubernetes: the Secrets of a namespace, read by name.',
  schema,
  accountSchema: { type: 'object', properties: {}, additionalProperties: false },
  open: async (...given) => (await import('./open.ts')).openKubernetes(...given),
})
