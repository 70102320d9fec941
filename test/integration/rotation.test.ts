import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Clock, systemClock } from '../../src/base/clock.ts'
import { openProviders } from '../../src/cli/open-providers.ts'
import { parseManagedPassword } from '../../src/gmsa/managed-password.ts'
import { parseKeytab } from '../../src/kerberos/keytab.ts'
import { makePki } from '../fakes/pki.ts'
import { keepingLog, makeRig, type Rig } from '../fakes/rig.ts'
import { type Domain, startDomain } from '../lab/domain.ts'
import { keyVersionOf } from '../lab/gmsa.ts'
import { needs } from '../lab/skip.ts'
import { makeTickets, type Tickets } from '../lab/tickets.ts'

const MINUTE = 60
const DAY = 86_400

/** This machine's clock, ahead by as many seconds as the domain controller's. */
function shiftedClock(): Clock & { ahead: number } {
  const clock = {
    ...systemClock,
    ahead: 0,
    now: () => Date.now() + clock.ahead * 1000,
    monotonic: () => performance.now() + clock.ahead * 1000,
  }
  return clock
}

describe.skipIf(!needs('samba', 'krb5', 'gssapi', 'ldap-utils'))(
  'through the changes of a password, minute by minute',
  () => {
    const clock = shiftedClock()
    let domain: Domain
    let rig: Rig
    let tickets: Tickets

    beforeAll(async () => {
      domain = await startDomain()
      tickets = makeTickets(domain, `HTTP/web01.${domain.dns}`)
      await writeFile(passwordFile(), domain.ccg.password, { mode: 0o600 })
      const options = {
        domain: domain.dns,
        servers: [domain.ip],
        transport: 'ldaps',
        timeout: '5s',
        ca: domain.ca,
        bind: { username: domain.ccg.username, domainName: domain.dns, passwordFile: passwordFile() },
      }
      const { log } = keepingLog()
      const providers = await openProviders(new Map([['ad', { type: 'active-directory', options }]]), { log, clock })
      const account = { provider: 'ad', options: { samAccountName: 'web01$' } }
      rig = await makeRig({
        pki: await makePki({
          notBefore: new Date(Date.now() - DAY * 1000),
          notAfter: new Date(Date.now() + 365 * DAY * 1000),
        }),
        providers,
        clock,
        clients: [
          {
            match: { uri: 'spiffe://localhost/client/test' },
            allow: ['keytab', 'managed-password'],
            accounts: ['web01'],
          },
        ],
        config: { accounts: new Map([['web01', account]]), limits: { requestsPerSecond: 100_000 } },
      })
    })
    afterAll(async () => {
      await rig[Symbol.asyncDispose]()
      await domain[Symbol.asyncDispose]()
    })

    async function getBytes(path: string): Promise<Buffer> {
      const { status, headers, bytes } = await rig.get(path)
      expect(headers['gmsa-error']).toBeUndefined()
      expect(status).toBe(200)
      return bytes
    }

    const passwordFile = () => join(domain.state, 'bind-password')

    async function moveTo(ahead: number): Promise<void> {
      clock.ahead = ahead
      await domain.clock(`+${ahead}`)
    }

    /** How many seconds ahead of this machine's clock the controller's is when the password changes next. */
    async function nextChange(): Promise<number> {
      const blob = await getBytes('/v1/accounts/web01/managed-password')
      const { queryInterval } = parseManagedPassword(blob)
      return clock.ahead + Number(queryInterval / 10_000_000n)
    }

    async function fetchKeytab(use: 'acceptor' | 'initiator'): Promise<string> {
      const bytes = await getBytes(`/v1/accounts/web01/keytab?for=${use}`)
      const path = join(domain.state, `${use}.keytab`)
      await writeFile(path, bytes, { mode: 0o600 })
      return path
    }

    /** What has to hold at every moment; what does not is named. */
    async function problemsNow({ withKvno = true } = {}): Promise<string[]> {
      const problems = [
        ...(await tickets.logOn(await fetchKeytab('initiator'), 'web01$')),
        ...(await tickets.accept(await fetchKeytab('acceptor'))),
      ]
      if (!withKvno) return problems
      const inFile = parseKeytab(await getBytes('/v1/accounts/web01/keytab?for=initiator')).map(({ kvno }) => kvno)
      const inDirectory = await keyVersionOf(domain, 'web01')
      if (new Set(inFile).size !== 1 || inFile[0] !== inDirectory)
        problems.push(`kvno ${inFile}, directory ${inDirectory}`)
      return problems
    }

    /** From `before` minutes before the change at `change` to `after` after it, with a new ticket at these minutes. */
    async function passThrough(change: number, before: number, after: number): Promise<string[]> {
      const problems: string[] = []
      await moveTo(change - before * MINUTE)
      await tickets.start()
      for (let minute = -before; minute <= after; minute++) {
        await moveTo(change + minute * MINUTE)
        if (minute === -before || minute % 10 === 0 || Math.abs(minute) <= 6) await tickets.take()
        const atOnce = minute === 0
        problems.push(...(await problemsNow({ withKvno: !atOnce })).map((each) => `minute ${minute}: ${each}`))
        if (!atOnce) continue
        // The service reads the new number two to ten seconds after the change; until then the old key still logs on.
        await moveTo(change + 12)
        problems.push(...(await problemsNow()).map((each) => `12 s after the change: ${each}`))
      }
      return problems
    }

    test("an account's first change, for which the directory withholds the previous password", async () => {
      const change = await nextChange()
      expect(await passThrough(change, 8, 8)).toEqual([])
    }, 300_000)

    test('a later change, from half an hour before to half an hour after', async () => {
      const change = await nextChange()
      expect(await passThrough(change, 30, 30)).toEqual([])
    }, 300_000)

    test('a change slept through, and several: the kvno is the directory one again', async () => {
      const change = await nextChange()
      await moveTo(change - 30 * MINUTE)
      await tickets.start()
      await tickets.take()
      expect(await problemsNow()).toEqual([])
      await moveTo(change + MINUTE)
      expect(await problemsNow()).toEqual([])
      await moveTo(change + 3 * DAY)
      await tickets.start()
      await tickets.take()
      expect(await problemsNow()).toEqual([])
    }, 120_000)

    test('the controller falls silent as a read is due: older keys, marked, then it answers again', async () => {
      const change = await nextChange()
      await moveTo(change - 60 * MINUTE)
      const before = await getBytes('/v1/accounts/web01/keytab')
      const pid = Number(await readFile(join(domain.state, 'dc1/run/samba.pid'), 'utf8'))
      process.kill(pid, 'SIGSTOP')
      try {
        await moveTo(change - 4 * MINUTE)
        const stale = await rig.get('/v1/accounts/web01/keytab')
        expect(stale.status).toBe(200)
        expect(stale.bytes.equals(before)).toBe(true)
        expect(Number(stale.headers['gmsa-stale'])).toBeGreaterThan(55 * MINUTE)
        // The rig's server certificate is of this machine's day.
        const ready = await rig.admin('/readyz?verbose&exclude=certificate')
        expect(ready.status).toBe(200)
        expect(ready.body).toMatch(/^\[-\]provider-ad failed: STORE_/m)
        expect((await rig.admin('/metrics')).body).toContain('gmsa_provider_account_stale{account="web01"} 1\n')
        // Past the change by more than five minutes no key that rests on the old reading goes out.
        await moveTo(change + 6 * MINUTE)
        expect((await rig.get('/v1/accounts/web01/keytab')).status).toBeGreaterThanOrEqual(503)
      } finally {
        process.kill(pid, 'SIGCONT')
      }
      const fresh = async () => {
        const { status, headers } = await rig.get('/v1/accounts/web01/keytab')
        return status === 200 && headers['gmsa-stale'] === undefined
      }
      await expect.poll(fresh, { timeout: 40_000, interval: 500 }).toBe(true)
      await tickets.start()
      await tickets.take()
      expect(await problemsNow()).toEqual([])
    }, 120_000)
  },
)
