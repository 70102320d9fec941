import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import type { ErrorCode, Reason } from '../../src/base/errors.ts'
import { Secret } from '../../src/base/secret.ts'
import { requestTicket } from '../../src/kerberos/as-exchange.ts'
import { printed } from '../contract/printed.ts'
import { failure } from '../contract/provider-contract.ts'
import { startKdc } from '../fakes/kdc.ts'
import { errorMessage, type Reply, type SeenRequest } from '../fakes/kdc-messages.ts'
import { client, exchange, HOUR, honest, keyOf, keysOf, NOW, refused } from './as-rig.ts'

describe('a refusal', () => {
  const cases: readonly (readonly [number, ErrorCode, Reason, RegExp])[] = [
    [1, 'STORE_DENIED', 'expired', /accountExpires/],
    [6, 'ACCOUNT_NOT_FOUND', 'not-found', /sAMAccountName/],
    [12, 'STORE_DENIED', 'not-permitted', /polic/],
    [14, 'STORE_DENIED', 'no-enctype', /msDS-SupportedEncryptionTypes/],
    [18, 'STORE_DENIED', 'disabled', /userAccountControl/],
    [23, 'STORE_DENIED', 'password-expired', /pwdLastSet/],
    [68, 'ACCOUNT_NOT_FOUND', 'wrong-realm', /domain/],
  ]
  test.each(cases)('by error %d is %s, %s, with a hint', async (code, ours, reason, hint) => {
    const error = await refused(() => errorMessage(code, NOW), ours, reason)
    expect(error.message).toMatch(/^127\.0\.0\.1:\d+: KDC_ERR_\w+ \(\d+\): web01\$@AD\.TEST /)
    expect(error.hint).toMatch(hint)
  })

  test.each([
    [60, /KRB_ERR_GENERIC/],
    [99, /error 99/],
    [16, /KDC_ERR_PADATA_TYPE_NOSUPP/],
  ] as const)('by error %d, which means nothing here, is named all the same', async (code, name) => {
    const error = await refused(() => errorMessage(code, NOW), 'STORE_UNAVAILABLE', 'protocol')
    expect(error.message).toMatch(name)
  })

  const status = (value: number) => {
    const data = Buffer.alloc(12)
    data.writeUInt32LE(value)
    const head = Buffer.from('3015a103020103a20e040c', 'hex')
    return Buffer.concat([head, data])
  }
  const statuses: readonly (readonly [string, number, Reason])[] = [
    ['STATUS_ACCOUNT_DISABLED', 0xc0000072, 'disabled'],
    ['STATUS_ACCOUNT_EXPIRED', 0xc0000193, 'expired'],
    ['STATUS_ACCOUNT_LOCKED_OUT', 0xc0000234, 'locked'],
    ['STATUS_PASSWORD_EXPIRED', 0xc0000071, 'password-expired'],
    ['STATUS_PASSWORD_MUST_CHANGE', 0xc0000224, 'must-change'],
    ['STATUS_INVALID_LOGON_HOURS', 0xc000006f, 'not-permitted'],
    ['STATUS_INVALID_WORKSTATION', 0xc0000070, 'not-permitted'],
    ['a status of no interest', 0xc0000001, 'disabled'],
  ]
  test.each(statuses)('beside which AD says %s', async (_name, value, reason) => {
    await refused(() => errorMessage(18, NOW, status(value)), 'STORE_DENIED', reason)
  })

  test('of the key names enctype and kvno, but not the key', async () => {
    const keys = [{ enctype: 18, key: new Secret(Buffer.from('kanari-kanari-kanari-kanari-kana')), kvno: 7 }]
    const error = await refused({}, 'STORE_DENIED', 'bad-password', { keys })
    expect(error.message).toMatch(
      /KDC_ERR_PREAUTH_FAILED \(24\): web01\$@AD\.TEST has another key than .*aes256-.*kvno 7$/,
    )
    expect(error.hint).toMatch(/changed since/)
    expect(printed(error)).not.toMatch(/kanari|6b616e617269/)
    await refused((request) => errorMessage(request.preauth.has(2) ? 31 : 25, NOW), 'STORE_DENIED', 'bad-password')
  })

  test('of the key by a KDC with another salt says which: the account was renamed', async () => {
    const keys = [{ enctype: 18, key: new Secret(keyOf(18, 1)) }]
    const info = [{ enctype: 18, salt: 'AD.TESThostold01.ad.test' }]
    const error = await refused({ info }, 'STORE_DENIED', 'bad-password', { keys })
    expect(error.hint).toContain('"AD.TESThostold01.ad.test"')
    const long = [{ enctype: 18, salt: 'x'.repeat(10_000) }]
    const other = await refused({ info: long }, 'STORE_DENIED', 'bad-password', { keys })
    expect(other.hint?.length).toBeLessThan(700)
  })

  test('of the key where no pre-authentication is wanted shows in the reply', async () => {
    const keys = [{ enctype: 18, key: new Secret(keyOf(18, 1)) }]
    const error = await refused({ preauth: false }, 'STORE_DENIED', 'bad-password', { keys })
    expect(error.message).toContain('the reply does not open')
  })

  test('for want of a common enctype comes from the KDC, from what it has, or from what we have', async () => {
    await refused({ info: [{ enctype: 17 }, { enctype: 23 }] }, 'STORE_DENIED', 'no-enctype')
    const keys = [{ enctype: 16, key: new Secret(Buffer.alloc(24)) }]
    await refused({}, 'STORE_DENIED', 'no-enctype', { keys })
    await refused({}, 'STORE_DENIED', 'no-enctype', { keys: [] })
  })

  test('again and again for the same', async () => {
    await refused(() => errorMessage(25, NOW), 'STORE_UNAVAILABLE', 'protocol')
  })
})

describe('a reply', () => {
  const wrong: readonly (readonly [string, Partial<Reply> | ((request: SeenRequest) => Partial<Reply>)])[] = [
    ['for another client', { client: 'web02$' }],
    ['for a client of another realm', { realm: 'OTHER.TEST' }],
    ['for another service', { server: ['krbtgt', 'OTHER.TEST'] }],
    ['with a ticket for another service', { ticketServer: ['kadmin', 'changepw'] }],
    ['to another request', ({ nonce }) => ({ nonce: nonce ^ 1 })],
    ['with an enctype nobody asked for', { enctype: 17, key: keyOf(17) }],
    ['with a session key of an enctype nobody asked for', { sessionKey: { enctype: 17, key: keyOf(17) } }],
    ['with a session key of a wrong length', { sessionKey: { enctype: 18, key: keyOf(17) } }],
    ['that lives longer than asked for', ({ till }) => ({ endTime: till + 1_000 })],
    ['that is over before it begins', { endTime: NOW - 1_000 }],
    ['that no key has encrypted', { key: keyOf(18, 99) }],
  ]
  test.each(wrong)('%s is refused', async (_what, reply) => {
    await refused({ reply }, 'STORE_UNAVAILABLE', 'protocol')
  })

  test('that is renewable for longer than asked for is refused', async () => {
    const reply = { renewTill: NOW + 25 * HOUR }
    await refused({ reply }, 'STORE_UNAVAILABLE', 'protocol', { renewLifetime: 24 * HOUR })
  })

  test('that was changed in any bit on its way is refused or means the same', async () => {
    let whole: Uint8Array | undefined
    const change: { at?: number; bit: number } = { bit: 0 }
    const answer = honest({ preauth: false })
    await using fake = await startKdc((request) => {
      const honestly = answer(request)
      if (typeof honestly === 'string' || 'wire' in honestly) return honestly
      whole = Buffer.from(honestly)
      const { at, bit } = change
      if (at !== undefined) whole[at % whole.length] = (whole[at % whole.length] ?? 0) ^ (1 << bit)
      return whole
    })
    const ask = () =>
      requestTicket({
        client,
        keys: keysOf(18),
        kdcs: { kdcs: [{ ...fake.kdc, transport: 'udp' }] },
        clock: { ...systemClock, now: () => NOW },
        random: (length) => new Uint8Array(length).fill(1),
      })
    const { credential } = await ask()
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.nat(7), async (at, bit) => {
        Object.assign(change, { at, bit })
        const got = await ask().catch((error) =>
          failure(Promise.reject(error), 'STORE_UNAVAILABLE', 'STORE_DENIED', 'ACCOUNT_NOT_FOUND'),
        )
        // Nothing seals the ticket itself on its way to the client, nor names' types; all else is under the key.
        if ('credential' in got)
          expect({ ...got.credential, ticket: 0, client: 0 }).toEqual({ ...credential, ticket: 0, client: 0 })
      }),
      { numRuns: 300 },
    )
    expect(whole).toBeDefined()
  })
})

describe('what is odd and does no harm is noted', () => {
  test('another salt', async () => {
    expect((await exchange({ info: [{ enctype: 18, salt: 'other' }] })).ticket.notes).toEqual(['other-salt'])
    expect((await exchange({ info: [{ enctype: 18, salt: 'other' }] }, { salt: '' })).ticket.notes).toEqual([
      'other-salt',
    ])
    const unasked = await exchange({ preauth: false, info: [{ enctype: 18, salt: 'other' }] })
    expect(unasked.ticket.notes).toEqual(['other-salt'])
    expect((await exchange({ info: [{ enctype: 17, salt: 'other' }, { enctype: 18 }] })).ticket.notes).toEqual([])
    const rc4 = { enctype: 23 as const, info: [{ enctype: 23, salt: 'other' }] }
    expect((await exchange(rc4, { keys: keysOf(23) })).ticket.notes).toEqual([])
  })

  test('another number of rounds', async () => {
    expect((await exchange({ info: [{ enctype: 18, rounds: 1000 }] })).ticket.notes).toEqual(['other-rounds'])
    const sha2 = { enctype: 20 as const, info: [{ enctype: 20, rounds: 32_768 }] }
    expect((await exchange(sha2, { keys: keysOf(20) })).ticket.notes).toEqual([])
  })

  test('another kvno, where both sides know theirs', async () => {
    expect((await exchange({ reply: { kvno: 4 } })).ticket).toMatchObject({ kvno: 4, notes: ['other-kvno'] })
    expect((await exchange({ reply: { kvno: undefined } })).ticket.notes).toEqual([])
    const keys = [{ enctype: 18, key: new Secret(keyOf(18)) }]
    expect((await exchange({ reply: { kvno: 4 } }, { keys })).ticket.notes).toEqual([])
  })
})
