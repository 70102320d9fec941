import type { Static } from 'typebox'
import { GmsaError } from '../../base/errors.ts'
import { isAccountName, NAMESPACE_PATTERN } from '../../gmsa/account-name.ts'
import { defineProvider } from '../define.ts'
import { encodePath, membersOf } from '../http.ts'
import type { Provider, ProviderContext } from '../provider.ts'
import { fromRecords, type RecordStore } from '../records.ts'
import { findAccess, type Surroundings } from './access.ts'
import { type Api, openApi } from './api.ts'
import { answerError, foreign, recordOf, statusReason } from './secret.ts'

const schema = {
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

/** Secrets of one namespace: a GET for each read, and no right but that. */
export const kubernetes = defineProvider({
  type: 'kubernetes',
  summary: 'Kubernetes: the Secrets of a namespace, read by name.',
  schema,
  accountSchema: { type: 'object', properties: {}, additionalProperties: false },
  open: (name, options, context) => openKubernetes(name, options, context),
})

/** Opens the provider; the API server is not asked before the first read. Rejects with CONFIG_INVALID. */
export async function openKubernetes(
  name: string,
  { namespace, ...options }: Static<typeof schema>,
  { log, clock }: ProviderContext,
  surroundings: Surroundings = {},
): Promise<Provider> {
  const api = await openApi(name, findAccess(options, log, surroundings), clock)
  return fromRecords(name, secretRecords(namespace, api), clock, log)
}

function secretRecords(namespace: string, api: Api): RecordStore {
  return {
    async read({ name, secret }, signal) {
      if (!isAccountName(secret)) {
        throw new GmsaError('ACCOUNT_NOT_FOUND', `secret of account ${name} is not the name of a Secret`)
      }
      const what = `Secret ${namespace}/${secret}`
      const answer = await api.get(encodePath('api', 'v1', 'namespaces', namespace, 'secrets', secret), signal)
      if (answer.status !== 200) throw answerError(answer, what)
      return recordOf(answer, name, what)
    },
    /**
     * The version, which everybody who is known may ask for: whether the server answers and knows us. Which Secrets
     * we may read is not asked: their names are not known here, and each refusal stands in the cluster's audit log.
     */
    async probe(signal) {
      const answer = await api.get('/version', signal)
      // Where even that is withheld, it is withheld from somebody who is known.
      if (answer.status === 403 && statusReason(answer.body) === 'Forbidden') return
      if (answer.status !== 200) throw answerError(answer, 'version')
      if (typeof membersOf(answer.body)['gitVersion'] !== 'string') throw foreign(answer, 'version')
    },
    close: () => api.close(),
  }
}
