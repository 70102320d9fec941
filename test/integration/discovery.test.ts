import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Dns, type SrvRecord, startDns } from '../lab/dns.ts'
import { type Domain, startDomain } from '../lab/domain.ts'
import { needs } from '../lab/skip.ts'

describe.skipIf(!needs('samba', 'krb5', 'dns'))(
  'domain controllers found by the SRV records of a real DNS server',
  () => {
    let domain: Domain
    let directory: string
    const record = (name: string, host: string, priority: number): SrvRecord => ({
      name: `_ldap._tcp.${name}dc._msdcs.${domain.dns}`,
      target: `${host}.${domain.dns}`,
      port: 389,
      priority,
      weight: 100,
    })

    beforeAll(async () => {
      domain = await startDomain({ realm: 'random' })
      directory = await mkdtemp(join(tmpdir(), 'gmsa-discovery-'))
    })
    afterAll(async () => {
      await domain?.[Symbol.asyncDispose]()
      await rm(directory, { recursive: true, force: true })
    })

    async function askDoctor(dns: Dns, more: object = {}) {
      const passwordFile = join(directory, 'password')
      await writeFile(passwordFile, domain.ccg.password, { mode: 0o600 })
      const bind = { username: domain.ccg.username, domainName: domain.dns, passwordFile }
      const ad = { type: 'active-directory', domain: domain.dns, ca: domain.ca, bind, ...more }
      const config = join(directory, 'config.json')
      await writeFile(
        config,
        JSON.stringify({
          tls: { certificate: 'none', key: 'none', clientCa: 'none' },
          providers: { ad },
          accounts: { web01: { provider: 'ad', samAccountName: 'web01$' } },
        }),
      )
      return dns.runCli(['doctor', 'web01', '--config', config])
    }
    const serve = (records: readonly SrvRecord[], hosts: Readonly<Record<string, string>> = {}) =>
      startDns({
        ip: domain.ip.replace(/\d+$/, '53'),
        records,
        hosts: { [`dc1.${domain.dns}`]: domain.ip, ...hosts },
      })

    test('the one named is asked, by its name', async () => {
      await using dns = await serve([record('', 'dc1', 0)])
      const { stdout } = await askDoctor(dns)
      expect(stdout).toMatch(new RegExp(`^ok +record +managed password of web01\\$, .* from dc1\\.${domain.dns}`, 'm'))
    })

    test('L1: the one of the first priority does not answer: the next one does', async () => {
      const nobody = domain.ip.replace(/\d+$/, '77')
      await using dns = await serve([record('', 'gone', 0), record('', 'dc1', 10)], { [`gone.${domain.dns}`]: nobody })
      const { stdout } = await askDoctor(dns)
      expect(stdout).toMatch(new RegExp(`^ok +record .* from dc1\\.${domain.dns}`, 'm'))
    })

    test('L1: those of the own site come first', async () => {
      const nobody = domain.ip.replace(/\d+$/, '77')
      const records = [record('', 'gone', 0), record('Berlin._sites.', 'dc1', 100)]
      await using dns = await serve(records, { [`gone.${domain.dns}`]: nobody })
      const { stdout } = await askDoctor(dns, { site: 'Berlin' })
      expect(stdout).toMatch(new RegExp(`^ok +record .* from dc1\\.${domain.dns}`, 'm'))
    })

    test('no records: the name that was asked for is told, and what to do', async () => {
      await using dns = await serve([])
      const { code, stdout } = await askDoctor(dns)
      expect(code).toBe(1)
      expect(stdout).toMatch(new RegExp(`_ldap\\._tcp\\.dc\\._msdcs\\.${domain.dns}: .*\\[not-found\\]`))
      expect(stdout).toMatch(/hint: .*DNS/)
    })
  },
)
