import { storeOutages } from '../../contract/outages.ts'
import { providerContract } from '../../contract/provider-contract.ts'
import { secretForms } from '../../contract/secret-forms.ts'
import { kubeconfigFixture, podFixture } from './rig.ts'

for (const [name, fixture] of [
  ['kubernetes (in a pod)', podFixture],
  ['kubernetes (kubeconfig with client certificate)', kubeconfigFixture],
] as const) {
  providerContract(name, fixture, { textOnly: true })
  secretForms(name, fixture)
  // What is shown is read from disk for each request: an expired token is one that is not shown any more.
  storeOutages(name, fixture, { survives: ['token-expired'] })
}
