import { GmsaError } from '../../base/errors.ts'
import { isAccountName } from '../../gmsa/account-name.ts'
import { encodePath, membersOf } from '../http.ts'
import type { Provider, ProviderContext } from '../provider.ts'
import { fromRecords, type RecordStore } from '../records.ts'
import { findAccess, type Surroundings } from './access.ts'
import { type Api, openApi } from './api.ts'
import type { Options } from './schema.ts'
import { answerError, foreign, recordOf, statusReason } from './secret.ts'

/** Opens the provider; the API server is not asked before the first read. Rejects with CONFIG_INVALID. */
export async function openKubernetes(
  name: string,
  { namespace, ...options }: Options,
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
