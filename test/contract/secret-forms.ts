import { describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { Secret } from '../../src/base/secret.ts'
import { encodeKeytab } from '../../src/kerberos/keytab.ts'
import { parsePrincipal } from '../../src/kerberos/principal.ts'
import type { Account, Provider } from '../../src/providers/provider.ts'
import { failure, logTo, type ProviderFixture } from './provider-contract.ts'

type Plain = readonly [domainName: string, username: string, password: string]

/** One text, as Azure's plug-in reads it. */
const TEXTS: readonly (readonly [string, Plain])[] = [
  ['contoso.com\\svc:p@ss', ['contoso.com', 'svc', 'p@ss']],
  ['CONTOSO\\svc:a:b\\c', ['CONTOSO', 'svc', 'a:b\\c']],
]
const BROKEN_TEXTS: readonly (readonly [string, string])[] = [
  ['svc:pa55', 'no backslash'],
  ['username=x&password=pa55', 'no backslash'],
  ['red:mond\\svc:pa55', 'a colon before the backslash'],
  ['\\svc:pa55', 'domainName is empty'],
  ['CONTOSO\\:pa55', 'username is empty'],
  ['CONTOSO\\svc:', 'password is empty'],
  ['System.Security.SecureString', 'is the name of a PowerShell type'],
]
const ECS = { usernameOfStandardUserAccount: 'user', passwordOfStandardUserAccount: 'word', domainName: 'CONTOSO' }
/** Members, as Rancher's plug-in and Amazon's credentials-fetcher name them; what the latter adds is no hindrance. */
const MEMBERS: readonly (readonly [string, Readonly<Record<string, string>>, Plain])[] = [
  ['of Rancher', { username: 'svc', password: 'pw', domainName: 'ad.test' }, ['ad.test', 'svc', 'pw']],
  ['of Amazon', { ...ECS, distinguishedNameOfgMSA: 'CN=web01' }, ['CONTOSO', 'user', 'word']],
  ['of both: the plain ones count', { ...ECS, username: 'svc', password: 'pw' }, ['CONTOSO', 'svc', 'pw']],
  ['of Amazon, the plain ones empty', { ...ECS, username: '', password: '' }, ['CONTOSO', 'user', 'word']],
]

/**
 * That secrets made for other tools are taken as they are, from this store. Call it beside the provider's contract.
 * `putText` stores this very text; a store that keeps members only has it under `value`.
 */
export function secretForms<F extends ProviderFixture>(
  name: string,
  makeFixture: () => Promise<F>,
  putText: (fixture: F, secret: string, text: string) => Promise<void> = (fixture, secret, value) =>
    fixture.put(secret, { value }),
): void {
  async function using(use: (fixture: F, provider: Provider, lines: unknown[]) => Promise<void>): Promise<void> {
    await using fixture = await makeFixture()
    const lines: unknown[] = []
    await using provider = await fixture.open({ log: logTo(lines), clock: systemClock })
    await use(fixture, provider, lines)
  }
  const account: Account = { name: 'web01', secret: 'one', options: {} }
  const signal = () => AbortSignal.timeout(10_000)

  async function credentialOf(provider: Provider): Promise<Plain> {
    const credential = await provider.reads.credential?.(account, signal())
    if (!credential) return expect.unreachable('offers no credential')
    return [credential.domainName, credential.username, credential.password.revealText()]
  }

  describe(`P2: ${name} takes secrets of other tools as they are:`, () => {
    test('P2: one text with domain, user and password', () =>
      using(async (fixture, provider) => {
        for (const [text, expected] of TEXTS) {
          await putText(fixture, 'one', text)
          expect(await credentialOf(provider)).toEqual(expected)
        }
      }))

    test('P2: a text that is none is refused by what is wrong with it', () =>
      using(async (fixture, provider) => {
        for (const [text, problem] of BROKEN_TEXTS) {
          await putText(fixture, 'one', text)
          const { message } = await failure(credentialOf(provider), 'MATERIAL_MALFORMED')
          expect(message, text).toContain(problem)
          expect(message).not.toMatch(/pa55|CONTOSO/)
        }
      }))

    test('P2: members', () =>
      using(async (fixture, provider) => {
        for (const [what, members, expected] of MEMBERS) {
          await fixture.put('one', members)
          expect(await credentialOf(provider), what).toEqual(expected)
        }
      }))

    test('P2: a keytab in base64', () =>
      using(async (fixture, provider) => {
        const principal = parsePrincipal('web01$@AD.TEST')
        const key = new Secret(new Uint8Array(32).fill(7))
        const keytab = encodeKeytab([{ principal, timestamp: 0, kvno: 3, enctype: 18, key }]).toString('base64')
        await fixture.put('one', { 'keytab.b64': keytab })
        const keys = await provider.reads['kerberos-keys']?.(account, signal())
        expect(keys?.keys.map(({ kvno }) => kvno)).toEqual([3])
      }))

    test('P3: of old:new the new user is used, and the log says which names the record has', () =>
      using(async (fixture, provider, lines) => {
        await fixture.put('one', { ...ECS, usernameOfStandardUserAccount: 'old:new' })
        expect(await credentialOf(provider)).toEqual(['CONTOSO', 'new', 'word'])
        const members = { username: 'usernameOfStandardUserAccount', password: 'passwordOfStandardUserAccount' }
        expect(lines).toContainEqual(expect.objectContaining({ account: 'web01', members, renamed: true }))
      }))
  })
}
