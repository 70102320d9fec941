import { afterEach, expect } from 'vitest'
import { systemClock } from '../../../src/base/clock.ts'
import { openVault } from '../../../src/providers/vault/open.ts'
import { type Outage, type OutageFixture, RETRY_AFTER, storeOutages } from '../../contract/outages.ts'
import { providerContract } from '../../contract/provider-contract.ts'
import { secretForms } from '../../contract/secret-forms.ts'
import type { Reply } from '../../fakes/stand-in.ts'
import { makeSecretFolder } from './rig.ts'
import { type FakeVault, startFakeVault } from './stand-in.ts'

const REPLIES: Partial<Readonly<Record<Outage, Reply>>> = {
  throttled: { status: 429, headers: { 'retry-after': String(RETRY_AFTER) }, body: { errors: ['quota exceeded'] } },
  'server-error': { status: 500, body: { errors: ['pa55-Kanari'] } },
}
const seen: FakeVault[] = []

afterEach(() => {
  for (const { violations } of seen.splice(0)) expect(violations).toEqual([])
})

async function vaultFixture(kvVersion: 1 | 2): Promise<OutageFixture> {
  const vault = await startFakeVault({ kvVersion, clock: systemClock })
  const { server } = vault
  const files = await makeSecretFolder()
  await files.write('ca.crt', server.ca)
  await files.write('jwt', 'jwt-1')
  seen.push(vault)
  return {
    open: (context) =>
      openVault(
        'vault',
        {
          address: server.address,
          mount: 'kv',
          ca: files.path('ca.crt'),
          auth: { method: 'kubernetes', role: 'gmsa', tokenFile: files.path('jwt') },
        },
        context,
      ),
    async put(secret, members) {
      vault.put(secret, members)
    },
    async remove(secret) {
      vault.remove(secret)
    },
    makeUnreachable: () => server.stop(),
    async hang() {
      server.fail('hang')
    },
    async fail(how) {
      if (how === 'forbidden') return vault.forbid('kv/')
      if (how === 'token-expired') {
        for (const token of vault.tokens.values()) token.ends = 0
        return
      }
      if (how === 'token-revoked') return vault.revokeAll()
      if (how === 'refused') return server.stop()
      if (how === 'wrong-name') return server.show('wrong-name')
      if (how === 'unknown-ca') return server.show('other-ca')
      server.fail(REPLIES[how] ?? (how as 'hang' | 'truncated' | 'not-json' | 'oversized'))
    },
    async restore() {
      vault.forbid()
      await server.restore()
    },
    async rotateCa() {
      await files.write('ca.crt', await server.rotateCa())
    },
    async [Symbol.asyncDispose]() {
      await vault[Symbol.asyncDispose]()
      await files[Symbol.asyncDispose]()
    },
  }
}

for (const version of [1, 2] as const) {
  providerContract(`vault (KV version ${version})`, () => vaultFixture(version))
  secretForms(`vault (KV version ${version})`, () => vaultFixture(version))
}
storeOutages('vault', () => vaultFixture(2), { survives: ['token-expired', 'token-revoked'] })
