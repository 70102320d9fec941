import { storeOutages } from '../../contract/outages.ts'
import { providerContract } from '../../contract/provider-contract.ts'
import { secretForms } from '../../contract/secret-forms.ts'
import { azureFixture } from './stand-in.ts'

providerContract('azure-key-vault', azureFixture)
secretForms('azure-key-vault', azureFixture, async ({ vault }, secret, text) => void vault.put(secret, text))
storeOutages('azure-key-vault', azureFixture, { survives: ['token-expired', 'token-revoked'] })
