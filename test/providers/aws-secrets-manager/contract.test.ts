import { storeOutages } from '../../contract/outages.ts'
import { providerContract } from '../../contract/provider-contract.ts'
import { secretForms } from '../../contract/secret-forms.ts'
import { awsFixture } from './stand-in.ts'

providerContract('aws-secrets-manager', awsFixture)
secretForms('aws-secrets-manager', awsFixture, async ({ manager }, secret, text) => void manager.put(secret, { text }))
storeOutages('aws-secrets-manager', awsFixture, { survives: ['token-expired', 'token-revoked'] })
