import { randomBytes } from 'node:crypto'
import { expect } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import type { ErrorCode, GmsaError, Reason } from '../../src/base/errors.ts'
import { Secret } from '../../src/base/secret.ts'
import type { EncryptionType } from '../../src/crypto/encryption.ts'
import { requestTicket, type TicketRequest } from '../../src/kerberos/as-exchange.ts'
import { failure } from '../contract/provider-contract.ts'
import { type Answer, type Behaviour, honestKdc, startKdc } from '../fakes/kdc.ts'
import type { SeenRequest } from '../fakes/kdc-messages.ts'

export const NOW = Date.UTC(2026, 0, 1)
export const SALT = 'AD.TESThostweb01.ad.test'
export const HOUR = 3_600_000
export const RENEWABLE = 0x0080_0000
export const FORWARDABLE = 0x4000_0000
export const keyOf = (enctype: EncryptionType, fill: number = enctype) =>
  new Uint8Array(enctype === 18 || enctype === 20 ? 32 : 16).fill(fill)
export const client = { realm: 'AD.TEST', components: ['web01$'], nameType: 1 }

export const honest = (behaviour: Partial<Behaviour> = {}) =>
  honestKdc({ now: () => NOW, salt: SALT, key: keyOf, ...behaviour })

export const keysOf = (...enctypes: readonly EncryptionType[]) =>
  enctypes.map((enctype) => ({ enctype, key: new Secret(keyOf(enctype)), kvno: 3 }))

/** Starts a KDC that behaves so, asks it for a ticket at the clock's NOW, and hands back both. */
export async function exchange(
  behaviour: Partial<Behaviour> | ((request: SeenRequest) => Answer),
  more: Partial<TicketRequest> = {},
) {
  await using fake = await startKdc(typeof behaviour === 'function' ? behaviour : honest(behaviour))
  const ticket = await requestTicket({
    client,
    keys: keysOf(18),
    salt: SALT,
    kdcs: { kdcs: [fake.kdc] },
    clock: { ...systemClock, now: () => NOW },
    random: randomBytes,
    ...more,
  })
  return { ticket, seen: [...fake.seen] }
}

export async function refused(
  behaviour: Partial<Behaviour> | ((request: SeenRequest) => Answer),
  code: ErrorCode,
  reason: Reason,
  more: Partial<TicketRequest> = {},
): Promise<GmsaError> {
  const error = await failure(exchange(behaviour, more), code)
  expect(error.reason).toBe(reason)
  return error
}
