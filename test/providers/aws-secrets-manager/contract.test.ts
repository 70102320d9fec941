import { storeOutages } from '../../contract/outages.ts'
import { providerContract } from '../../contract/provider-contract.ts'
import { awsFixture } from './stand-in.ts'

providerContract('aws-secrets-manager', awsFixture)
storeOutages('aws-secrets-manager', awsFixture, { survives: ['token-expired', 'token-revoked'] })
