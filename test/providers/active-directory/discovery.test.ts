import { describe, expect, test } from 'vitest'
import type { Resolve } from '../../../src/base/srv.ts'
import { discoverControllers, resolveRecords } from '../../../src/providers/active-directory/discovery.ts'
import { failure } from '../../contract/provider-contract.ts'

const record = (name: string) => ({ name, port: 389, priority: 0, weight: 100 })
/** A DNS that holds these names and says ENOTFOUND for all others. */
const dns =
  (zone: Readonly<Record<string, readonly ReturnType<typeof record>[]>>): Resolve =>
  async (name) => {
    const found = zone[name]
    if (found) return found
    throw Object.assign(new Error(`querySrv ENOTFOUND ${name}`), { code: 'ENOTFOUND' })
  }

describe('finding the controllers of a domain', () => {
  const all = '_ldap._tcp.dc._msdcs.ad.test'
  const berlin = '_ldap._tcp.Berlin._sites.dc._msdcs.ad.test'
  const random = () => 0
  const near = record('near.ad.test')
  const far = record('far.ad.test')

  test('asks for the domain', async () => {
    const found = await discoverControllers({ domain: 'ad.test', random, resolve: dns({ [all]: [far, near] }) })
    expect(found.toSorted()).toEqual(['far.ad.test', 'near.ad.test'])
  })

  test('names a controller once, however many records it has', async () => {
    const resolve = dns({ [all]: [far, { ...far, priority: 5 }, { ...far, port: 3268 }] })
    expect(await discoverControllers({ domain: 'ad.test', random, resolve })).toEqual(['far.ad.test'])
  })

  test('puts those of the site first and keeps the others', async () => {
    const resolve = dns({ [all]: [far, near], [berlin]: [near] })
    const found = await discoverControllers({ domain: 'ad.test', site: 'Berlin', random, resolve })
    expect(found).toEqual(['near.ad.test', 'far.ad.test'])
  })

  test('a site without records costs only the preference, and the site alone is enough', async () => {
    const site = 'Berlin'
    const without = await discoverControllers({ domain: 'ad.test', site, random, resolve: dns({ [all]: [far] }) })
    expect(without).toEqual(['far.ad.test'])
    const only = await discoverControllers({ domain: 'ad.test', site, random, resolve: dns({ [berlin]: [near] }) })
    expect(only).toEqual(['near.ad.test'])
  })

  test('takes no host outside the domain: the DNS could be forged', async () => {
    const resolve = dns({ [all]: [record('evil.example'), record('evil-ad.test'), record('ad.test'), near] })
    expect(await discoverControllers({ domain: 'AD.test', random, resolve: forAnyCase(resolve) })).toEqual([
      'near.ad.test',
    ])
    const forged = dns({ [all]: [record('evil.example')] })
    const error = await failure(
      discoverControllers({ domain: 'ad.test', random, resolve: forged }),
      'STORE_UNAVAILABLE',
    )
    expect(error.message).toContain('outside ad.test')
    expect(error.hint).toContain('servers')
  })

  test('says which name the DNS does not know', async () => {
    const nothing = discoverControllers({ domain: 'ad.test', random, resolve: dns({}) })
    const error = await failure(nothing, 'STORE_UNAVAILABLE')
    expect(error).toMatchObject({ reason: 'not-found', message: expect.stringContaining(`${all}: ENOTFOUND`) })
    await failure(resolveRecords('x', dns({})), 'STORE_UNAVAILABLE')
  })
})

const forAnyCase =
  (resolve: Resolve): Resolve =>
  (name) =>
    resolve(name.replace('AD.test', 'ad.test'))
