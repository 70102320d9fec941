import { storeOutages } from '../../contract/outages.ts'
import { providerContract } from '../../contract/provider-contract.ts'
import { azureFixture } from './stand-in.ts'

providerContract('azure-key-vault', azureFixture)
storeOutages('azure-key-vault', azureFixture, { survives: ['token-expired', 'token-revoked'] })
