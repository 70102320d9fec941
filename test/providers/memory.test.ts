import { GmsaError } from '../../src/base/errors.ts'
import { providerContract } from '../contract/provider-contract.ts'
import { memoryStore } from '../fakes/memory-provider.ts'

// The fake that other tests lean on has to be a provider like any other.
providerContract('the store in memory', async () => {
  const store = memoryStore()
  let release = () => {}
  return {
    open: async () => store.provider,
    async put(secret, members) {
      store.put(secret, members)
      store.announce(secret)
    },
    remove: async (secret) => store.remove(secret),
    makeUnreachable: async () => store.fail(new GmsaError('STORE_UNAVAILABLE', 'out')),
    async restore() {
      release()
      store.fail(undefined)
    },
    async hang() {
      release = store.hold()
    },
    async [Symbol.asyncDispose]() {},
  }
})
