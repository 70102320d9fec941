import type { Static } from 'typebox'
import { NAMESPACE_PATTERN } from '../../gmsa/account-name.ts'

/** Options of the provider. */
export const schema = {
  type: 'object',
  properties: {
    namespace: {
      type: 'string',
      pattern: NAMESPACE_PATTERN,
      description: 'The one namespace that Secrets are read from.',
    },
    kubeconfig: {
      type: 'string',
      minLength: 1,
      format: 'path',
      description:
        "How to reach the cluster from outside; read again for each request. Left out: the files of the variable KUBECONFIG, else the pod's own service account.",
    },
    context: {
      type: 'string',
      minLength: 1,
      description: 'Context of the kubeconfig. Left out: its `current-context`.',
    },
    allowReadable: {
      type: 'boolean',
      default: false,
      description:
        'Accept a kubeconfig, token or key that group or others can read, which are otherwise refused on a writable file system.',
    },
  },
  required: ['namespace'],
  additionalProperties: false,
} as const

export type Options = Static<typeof schema>
