import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { openProviders } from '../../src/cli/open-providers.ts'
import { parseKeytab } from '../../src/kerberos/keytab.ts'
import { keepingLog, makeRig } from '../fakes/rig.ts'
import { startDomain } from '../lab/domain.ts'
import { needs } from '../lab/skip.ts'

const COUNT = 200
const names = Array.from({ length: COUNT }, (_, index) => `many${String(index).padStart(3, '0')}`)

/** Accounts that every logged-on user may read, as the lab's own are made: enctypes 28 are RC4, AES128 and AES256. */
function accountsLdif(dns: string): string {
  const account = (name: string) => `dn: CN=${name},CN=Managed Service Accounts,@BASE@
changetype: add
objectClass: msDS-GroupManagedServiceAccount
sAMAccountName: ${name}$
dNSHostName: ${name}.${dns}
userAccountControl: 4096
msDS-ManagedPasswordInterval: 30
msDS-SupportedEncryptionTypes: 28
msDS-GroupMSAMembership: O:SYD:(A;;RP;;;AU)
servicePrincipalName: HTTP/${name}.${dns}
`
  return names.map(account).join('\n')
}

/** How many established connections this machine has to that address and port, by proc(5)'s table. */
async function connectionsTo(ip: string, port: number): Promise<number> {
  const address = ip.split('.').reverse()
  const hex = address.map((part) => Number(part).toString(16).padStart(2, '0')).join('')
  const remote = `${hex}:${port.toString(16).padStart(4, '0')}`.toUpperCase()
  const rows = (await readFile('/proc/net/tcp', 'utf8')).split('\n').map((line) => line.trim().split(/\s+/))
  return rows.filter(([, , to, state]) => to === remote && state === '01').length
}

test.skipIf(!needs('samba', 'krb5'))(
  `${COUNT} gMSAs asked for at once: one read each, over one connection to the controller`,
  async () => {
    await using domain = await startDomain()
    await domain.modify(accountsLdif(domain.dns))
    const passwordFile = join(domain.state, 'bind-password')
    await writeFile(passwordFile, domain.ccg.password, { mode: 0o600 })
    const bind = { username: domain.ccg.username, domainName: domain.dns, passwordFile }
    const options = {
      domain: domain.dns,
      servers: [domain.ip],
      transport: 'ldaps',
      timeout: '40s',
      ca: domain.ca,
      bind,
    }
    const configs = new Map([['ad', { type: 'active-directory', options }]])
    const providers = await openProviders(configs, { log: keepingLog().log, clock: systemClock })
    await using rig = await makeRig({
      providers,
      clients: [{ match: { uri: 'spiffe://localhost/client/test' }, allow: ['keytab'], accounts: ['many*'] }],
      config: {
        accounts: new Map(names.map((name) => [name, { provider: 'ad', options: { samAccountName: `${name}$` } }])),
        timeouts: { store: 45_000, request: 10_000 },
        limits: { requestsPerSecond: 100_000 },
      },
    })
    let most = 0
    const looking = setInterval(() => {
      void connectionsTo(domain.ip, 636).then((found) => {
        most = Math.max(most, found)
      })
    }, 20)
    // Twice each: the second call joins the first one's read, or is answered from it.
    const replies = await Promise.all(
      names.flatMap((name) => [name, name]).map((name) => rig.get(`/v1/accounts/${name}/keytab`)),
    )
    clearInterval(looking)
    expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([200]))
    const keys = new Set(
      replies.flatMap(({ bytes }) => parseKeytab(bytes).map(({ key }) => Buffer.from(key.reveal()).toString('hex'))),
    )
    expect(keys.size).toBe(COUNT * 2)
    const { body } = await rig.admin('/metrics')
    expect(body).toContain(`gmsa_provider_provider_reads_total{provider="ad",outcome="ok",reason="none"} ${COUNT}\n`)
    expect(body).toMatch(
      new RegExp(`directory_reads_total\\{provider="ad",server="${RegExp.escape(domain.ip)}",outcome="ok"\\} \\d+`),
    )
    expect(most).toBe(1)
  },
  150_000,
)
