import { afterEach, beforeEach, vi } from 'vitest'
import { systemClock } from '../../../src/base/clock.ts'
import { silentLog } from '../../../src/base/log.ts'
import { azureKeyVault } from '../../../src/providers/azure-key-vault/index.ts'
import type { Account, Provider } from '../../../src/providers/provider.ts'
import { type AzureFixture, azureFixture } from './stand-in.ts'

export const context = { log: silentLog, clock: systemClock }
export const text = (password: string) => `AD\\svc:${password}`

/** A provider over the stand-in for each test, and ways to use it. */
export interface KeyVaultRig {
  readonly fixture: AzureFixture
  readonly provider: Provider
  passwordOf(secret?: string, options?: Account['options'], which?: 'reads' | 'previous'): Promise<string | undefined>
  /** Opens another provider in place of the fixture's. */
  reopen(more: Readonly<Record<string, unknown>>): Promise<void>
}

export function useKeyVault(): KeyVaultRig {
  let fixture: AzureFixture
  let provider: Provider

  beforeEach(async () => {
    fixture = await azureFixture()
    provider = await fixture.open(context)
  })
  afterEach(async () => {
    vi.useRealTimers()
    await provider[Symbol.asyncDispose]()
    await fixture[Symbol.asyncDispose]()
  })

  return {
    get fixture() {
      return fixture
    },
    get provider() {
      return provider
    },
    async passwordOf(secret = 'one', options = {}, which = 'reads') {
      const read = which === 'reads' ? provider.reads.credential : provider.readPrevious
      const credential = await read?.({ name: 'web01', secret, options }, AbortSignal.timeout(10_000))
      return credential?.password.revealText()
    },
    async reopen(more) {
      await provider[Symbol.asyncDispose]()
      provider = await azureKeyVault.open('akv', { ...fixture.options, ...more }, context)
    },
  }
}
