import { describe, expect, test } from 'vitest'
import {
  discoverControllers,
  orderRecords,
  type Resolve,
  resolveRecords,
} from '../../../src/providers/active-directory/discovery.ts'
import { failure } from '../../contract/provider-contract.ts'

const record = (name: string, priority = 0, weight = 100) => ({ name, priority, weight })
/** The same numbers each run: a linear congruential generator. */
function numbers(seed = 1): () => number {
  let state = seed
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31
    return state / 2 ** 31
  }
}

/** A DNS that holds these names and says ENOTFOUND for all others. */
const dns =
  (zone: Readonly<Record<string, readonly ReturnType<typeof record>[]>>): Resolve =>
  async (name) => {
    const found = zone[name]
    if (found) return found
    throw Object.assign(new Error(`querySrv ENOTFOUND ${name}`), { code: 'ENOTFOUND' })
  }

describe('the order of SRV records', () => {
  test('lower priorities come first, whatever the weights', () => {
    const records = [record('c', 20, 1000), record('a', 0, 1), record('b', 10, 1000)]
    for (let seed = 1; seed < 50; seed++) expect(orderRecords(records, numbers(seed))).toEqual(['a', 'b', 'c'])
  })

  test('within one priority the first is drawn by weight', () => {
    const random = numbers()
    const records = [record('heavy', 0, 300), record('light', 0, 100)]
    const rounds = Array.from({ length: 2_000 }, () => orderRecords(records, random))
    const heavyFirst = rounds.filter(([first]) => first === 'heavy').length / rounds.length
    expect(heavyFirst).toBeGreaterThan(0.7)
    expect(heavyFirst).toBeLessThan(0.8)
    expect(new Set(rounds.map((each) => each.toSorted().join()))).toEqual(new Set(['heavy,light']))
  })

  test('records without weight are equals among each other, and rare beside others', () => {
    const random = numbers()
    const first = (...records: ReturnType<typeof record>[]) => orderRecords(records, random)[0]
    const drawn = Array.from({ length: 1_000 }, () => first(record('a', 0, 0), record('b', 0, 0)))
    expect(drawn.filter((each) => each === 'a').length).toBeGreaterThan(400)
    expect(drawn.filter((each) => each === 'b').length).toBeGreaterThan(400)
    const beside = Array.from({ length: 1_000 }, () => first(record('none', 0, 0), record('some', 0, 99)))
    const rare = beside.filter((each) => each === 'none').length
    expect(rare).toBeGreaterThan(0)
    expect(rare).toBeLessThan(50)
  })

  test('every name comes once, and the name of no service never', () => {
    expect(orderRecords([record('a'), record('a', 5), record('.'), record('')], numbers())).toEqual(['a'])
    expect(orderRecords([], numbers())).toEqual([])
  })

  test.each([0, 0.5, 0.999_999])('no record is lost when the number drawn is %d', (value) => {
    const records = [record('a', 0, 0), record('b', 0, 10), record('c', 0, 65_535), record('d', 1, 0)]
    expect(orderRecords(records, () => value).toSorted()).toEqual(['a', 'b', 'c', 'd'])
  })
})

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
