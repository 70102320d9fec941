import { describe, expect, test } from 'vitest'
import type { ServerRecord } from '../../../src/base/srv.ts'
import { checkSchema } from '../../../src/cli/config-check.ts'
import { Origins } from '../../../src/cli/config-problem.ts'
import { domainBase } from '../../../src/providers/active-directory/open.ts'
import { schema } from '../../../src/providers/active-directory/schema.ts'
import { failure } from '../../contract/provider-contract.ts'
import { openRig } from './rig.ts'

const bind = { provider: 'local', account: 'svc-ccg' }
/** The options in which a configuration departs from the schema. */
function problems(options: object): string[] {
  const origins = new Origins({ source: 'test', directory: '/' })
  return checkSchema({ domain: 'ad.test', bind, ...options }, schema, origins).map(({ path }) => path)
}

describe('the options of the active-directory provider', () => {
  test.each([
    {},
    { servers: ['dc1.ad.test', '127.0.0.1', '::1'], transport: 'starttls', port: 389, ca: 'ca.crt', timeout: '2s' },
    { site: 'Default-First-Site-Name', searchBase: 'OU=Web,DC=ad,DC=test' },
    { bind: { username: 'svc', domainName: 'AD', passwordFile: 'password' } },
    { bind: { certificate: 'c.crt', key: 'c.key' } },
  ])('%j is taken', (options) => {
    expect(problems(options)).toEqual([])
  })

  test.each<[object, string[]]>([
    [{ domain: 'AD' }, ['domain']],
    [{ servers: [] }, ['servers']],
    [{ servers: ['ldaps://dc1.ad.test'] }, ['servers[0]']],
    [{ servers: ['user@dc1'] }, ['servers[0]']],
    [{ transport: 'ldap' }, ['transport']],
    [{ port: 0 }, ['port']],
    [{ timeout: 'soon' }, ['timeout']],
    [{ site: 'a.b' }, ['site']],
    [{ urls: [] }, ['urls']],
    [{ bind: {} }, ['bind']],
    [{ bind: { provider: 'local' } }, ['bind']],
    [{ bind: { username: 'u', passwordFile: 'p' } }, ['bind']],
    [{ bind: { provider: 'local', account: 'a', username: 'u' } }, ['bind']],
    [{ bind: { ...bind, certificate: 'c', key: 'k' } }, ['bind']],
    [{ bind: { username: 'u', domainName: 'd', passwordFile: 'p', certificate: 'c', key: 'k' } }, ['bind']],
    [{ bind: { ...bind, password: 'p' } }, ['bind.password']],
  ])('%j is refused, by its name', (options, paths) => {
    expect(problems(options)).toEqual(paths)
  })

  test('the search base is the domain in distinguished form', () => {
    expect(domainBase('corp.ad.example.com')).toBe('DC=corp,DC=ad,DC=example,DC=com')
  })
})

describe('a provider without a list of servers', () => {
  const domain = { dns: 'gmsa.invalid', ip: '127.0.0.1', ca: '', ccg: { username: 'u', password: 'p' } }
  /** A DNS that counts how often it is asked. */
  function countingDns(answer: () => Promise<readonly ServerRecord[]>) {
    const asked: string[] = []
    const resolve = async (name: string) => {
      asked.push(name)
      return answer()
    }
    return { asked, resolve }
  }
  const open = (resolve: (name: string) => Promise<readonly ServerRecord[]>, site?: string) => {
    const options = { timeout: '2s', ...(site && { site }) }
    return openRig(domain, { options, discover: true, surroundings: { resolve, random: () => 0 } })
  }

  test('asks the DNS once for many reads, and for the site too', async () => {
    const records = [{ name: 'dc1.gmsa.invalid', port: 389, priority: 0, weight: 0 }]
    const { asked, resolve } = countingDns(async () => records)
    await using rig = await open(resolve, 'Berlin')
    await Promise.all([rig.read('web01'), rig.read('sql01')].map((each) => failure(each, 'STORE_UNAVAILABLE')))
    await failure(rig.read('web01'), 'STORE_UNAVAILABLE')
    expect(asked).toEqual(['_ldap._tcp.Berlin._sites.dc._msdcs.gmsa.invalid', '_ldap._tcp.dc._msdcs.gmsa.invalid'])
    expect(rig.outcomes).toContain('dc1.gmsa.invalid failed')
  })

  test('asks again after the DNS gave no answer', async () => {
    const { asked, resolve } = countingDns(() => Promise.reject(Object.assign(new Error('x'), { code: 'ESERVFAIL' })))
    await using rig = await open(resolve)
    expect((await failure(rig.read('web01'), 'STORE_UNAVAILABLE')).message).toContain('ESERVFAIL')
    await failure(rig.read('web01'), 'STORE_UNAVAILABLE')
    expect(asked).toHaveLength(2)
  })
})

test.each(['0s', '61s'])('a time of %s is refused', async (timeout) => {
  const domain = { dns: 'gmsa.invalid', ip: '127.0.0.1', ca: '', ccg: { username: 'u', password: 'p' } }
  await failure(openRig(domain, { options: { timeout } }), 'CONFIG_INVALID')
})

test('whoever listens hears of each server asked, until it stops or the provider is closed', async () => {
  const domain = { dns: 'gmsa.invalid', ip: '127.0.0.1', ca: '', ccg: { username: 'u', password: 'p' } }
  await using rig = await openRig(domain, {
    discover: true,
    options: { servers: ['127.0.0.1'], port: 1, timeout: '2s' },
  })
  const heard: string[] = []
  const listening = rig.provider.watchServers?.((server, outcome) => heard.push(`${server} ${outcome}`))
  await failure(rig.read('web01'), 'STORE_UNAVAILABLE')
  expect(heard).toEqual(['127.0.0.1 failed'])
  listening?.[Symbol.dispose]()
  await failure(rig.read('web01'), 'STORE_UNAVAILABLE')
  expect(heard).toHaveLength(1)
  expect(rig.outcomes).toHaveLength(2)
})
