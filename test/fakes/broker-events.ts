import { vi } from 'vitest'

/** What a broker tells, kept for a test to look at. */
export const brokerEvents = () => ({
  cacheRead: vi.fn(),
  providerRead: vi.fn(),
  providerUp: vi.fn(),
  accountRead: vi.fn(),
  accountKeys: vi.fn(),
  directoryRead: vi.fn(),
  logOn: vi.fn(),
})
