import { execFile } from 'node:child_process'
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { openProviders } from '../../src/cli/open-providers.ts'
import { parseManagedPassword } from '../../src/gmsa/managed-password.ts'
import { openConnection } from '../../src/providers/active-directory/connection.ts'
import { printed } from '../contract/printed.ts'
import { failure } from '../contract/provider-contract.ts'
import { makePki } from '../fakes/pki.ts'
import { type Domain, type Login, startDomain } from '../lab/domain.ts'
import { relay } from '../lab/relay.ts'
import { needs } from '../lab/skip.ts'
import { openRig, type RigOptions } from '../providers/active-directory/rig.ts'

const execute = promisify(execFile)

describe.skipIf(!needs('samba', 'krb5', 'ldap-utils'))(
  'the active-directory provider on a real domain controller',
  () => {
    let domain: Domain
    const closing: AsyncDisposable[] = []
    beforeAll(async () => {
      domain = await startDomain({ realm: 'random', startOffset: '-2d' })
    })
    afterAll(() => domain?.[Symbol.asyncDispose]())
    afterEach(async () => {
      for (const each of closing.splice(0)) await each[Symbol.asyncDispose]()
    })

    async function open(rig: RigOptions = {}) {
      const opened = await openRig(domain, rig)
      closing.push(opened)
      return opened
    }

    /** The one attribute of web01$ and the like, as OpenLDAP's tool shows it: text, or base64 after two colons. */
    async function ldapsearch(account: string, attribute: string): Promise<string[]> {
      const passwordFile = join(domain.state, 'ccg.password')
      await writeFile(passwordFile, domain.ccg.password, { mode: 0o600 })
      const asWhom = ['-x', '-D', `${domain.ccg.username}@${domain.dns}`, '-y', passwordFile, '-H', domain.ldapsUrl]
      const what = ['-LLL', '-o', 'ldif-wrap=no', '-b', domain.base, `(sAMAccountName=${account})`, attribute]
      // Not under the DC's clock, in which its certificate is not valid yet.
      const { stdout } = await execute('ldapsearch', [...asWhom, ...what], { env: domain.env })
      return stdout.split('\n').flatMap((line) => new RegExp(`^${attribute}::? (.*)$`).exec(line)?.[1] ?? [])
    }

    test.each([
      ['web01', 1],
      ['sql01', 30],
    ])('reads %s as ldapsearch shows it', async (account, interval) => {
      const { read } = await open()
      const got = await read(account)
      const [blob = ''] = await ldapsearch(`${account}$`, 'msDS-ManagedPassword')
      const theirs = parseManagedPassword(Buffer.from(blob, 'base64'))
      const ours = parseManagedPassword(got.blob.reveal())
      expect(ours.current.equals(theirs.current)).toBe(true)
      expect(got.kvno?.value).toBe(Number((await ldapsearch(`${account}$`, 'msDS-KeyVersionNumber'))[0]))
      expect(Math.abs(got.receivedAt - Date.now())).toBeLessThan(10_000)
      expect(got.kvno?.readAt).toBeGreaterThanOrEqual(got.receivedAt)
      expect(got.server).toBe(domain.ip)
      expect(got.account).toEqual({
        samAccountName: `${account}$`,
        domain: domain.dns,
        sid: expect.stringMatching(/^S-1-5-21-\d+-\d+-\d+-\d+$/),
        servicePrincipalNames: await ldapsearch(`${account}$`, 'servicePrincipalName'),
        supportedEnctypes: 28,
        managedPasswordInterval: interval,
      })
    })

    test('shows no secret when what it read is printed', async () => {
      const { read } = await open()
      const got = await read('web01')
      expect(printed(got)).toContain('[secret]')
      const { current } = parseManagedPassword(got.blob.reveal())
      const text = printed(got)
      for (const form of ['hex', 'base64', 'latin1'] as const) {
        expect(text).not.toContain(Buffer.from(current.reveal().subarray(0, 24)).toString(form))
      }
    })

    test('L4: tells an account whose password it may not read from one that is not there', async () => {
      const { read, outcomes } = await open()
      const refused = await failure(read('secret01'), 'STORE_DENIED')
      expect(refused.reason).toBe('not-permitted')
      expect(refused.hint).toMatch(/msDS-GroupMSAMembership.*PrincipalsAllowedToRetrieveManagedPassword/)
      await failure(read('nobody01'), 'ACCOUNT_NOT_FOUND')
      expect(outcomes).toEqual([`${domain.ip} failed`, `${domain.ip} ok`])
    })

    test('takes no name as a part of the filter', async () => {
      const { provider } = await open()
      for (const samAccountName of [
        '*',
        'web01*',
        'web01$)(objectClass=*',
        'web01\\24',
        'x)(|(sAMAccountName=web01$)',
      ]) {
        const account = { name: 'web01', secret: 'web01', options: { samAccountName } }
        const read = provider.reads['managed-password']?.(account, AbortSignal.timeout(5_000))
        await failure(read ?? Promise.resolve(), 'ACCOUNT_NOT_FOUND')
      }
    })

    test('L3: finds an account in another OU, below that OU, and by its DN; and elsewhere not', async () => {
      const [usual, other] = ['CN=Managed Service Accounts', 'OU=Services']
      const move = (from: string, to: string) =>
        `dn: CN=sql01,${from},@BASE@\nchangetype: modrdn\nnewrdn: CN=sql01\ndeleteoldrdn: 1\nnewsuperior: ${to},@BASE@\n`
      await domain.modify(`dn: ${other},@BASE@\nchangetype: add\nobjectClass: organizationalUnit\n`)
      await domain.modify(move(usual, other))
      try {
        for (const base of [undefined, `${other},${domain.base}`, `CN=sql01,${other},${domain.base}`]) {
          const { read } = await open({ options: base === undefined ? {} : { searchBase: base } })
          expect((await read('sql01')).account.samAccountName, base).toBe('sql01$')
        }
        const { read } = await open({ options: { searchBase: `${usual},${domain.base}` } })
        await failure(read('sql01'), 'ACCOUNT_NOT_FOUND')
      } finally {
        await domain.modify(move(other, usual))
      }
    })

    test('takes no ordinary user for a gMSA', async () => {
      const { provider } = await open()
      const account = { name: 'x', secret: 'x', options: { samAccountName: 'svc-ccg' } }
      const read = provider.reads['managed-password']?.(account, AbortSignal.timeout(5_000))
      await failure(read ?? Promise.resolve(), 'ACCOUNT_NOT_FOUND')
    })

    test('sends sixty reads at one time over one connection with one log-on', async () => {
      const { read, logOns } = await open()
      const names = Array.from({ length: 60 }, (_, index) => (index % 2 ? 'web01' : 'sql01'))
      const got = await Promise.all(names.map((name) => read(name)))
      expect(got.map((each) => each.account.samAccountName)).toEqual(names.map((name) => `${name}$`))
      expect(logOns()).toBe(1)
    })

    test('logs on and reads the root entry for a probe', async () => {
      const { provider, logOns } = await open()
      await provider.probe(AbortSignal.timeout(5_000))
      expect(logOns()).toBe(1)
      const wrong = await open({ login: () => ({ ...domain.ccg, password: 'not it' }) })
      await failure(wrong.provider.probe(AbortSignal.timeout(5_000)), 'STORE_DENIED')
    })

    test.each<[string, RigOptions['options'], boolean]>([
      ['StartTLS on the plain port', { transport: 'starttls' }, true],
      ['LDAPS on the plain port', { port: 389 }, false],
      ['StartTLS on the LDAPS port', { transport: 'starttls', port: 636 }, false],
      ['a port where nobody listens', { port: 637 }, false],
    ])('L2: %s', async (_, options, works) => {
      const { read } = await open({ options: { ...options, timeout: '2s' } })
      if (works) return expect((await read('web01')).kind).toBe('managed-password')
      const error = await failure(read('web01'), 'STORE_UNAVAILABLE')
      expect(error.reason).toBe('refused')
    })

    test('L2: a certificate from an unknown CA is refused, in both transports', async () => {
      const { ca } = await makePki()
      const other = join(domain.state, 'other-ca.crt')
      await writeFile(other, ca.certificate)
      for (const transport of ['ldaps', 'starttls'] as const) {
        const { read, logOns } = await open({ options: { ca: other, transport } })
        expect((await failure(read('web01'), 'STORE_UNAVAILABLE')).reason).toBe('unknown-ca')
        expect(logOns()).toBe(transport === 'ldaps' ? 1 : 0)
      }
    })

    test('a CA file that is exchanged is taken up by the next connection', async () => {
      const { ca } = await makePki()
      const file = join(domain.state, 'changing-ca.crt')
      await writeFile(file, ca.certificate)
      const { read } = await open({ options: { ca: file } })
      expect((await failure(read('web01'), 'STORE_UNAVAILABLE')).reason).toBe('unknown-ca')
      await copyFile(domain.ca, file)
      expect((await read('web01')).server).toBe(domain.ip)
    })

    test('L2: a certificate for another name is refused, in both transports', async () => {
      for (const transport of ['ldaps', 'starttls'] as const) {
        await using between = await relay(domain.ip, transport)
        const { read } = await open({ options: { servers: ['localhost'], port: between.port, transport } })
        expect((await failure(read('web01'), 'STORE_UNAVAILABLE')).reason).toBe('name-mismatch')
      }
    })

    test.each(['ldaps', 'starttls'] as const)(
      '%s: a connection that ended is replaced, with a log-on',
      async (transport) => {
        await using between = await relay(domain.ip, transport, domain.ip)
        const { read, lines, logOns } = await open({ options: { port: between.port, transport } })
        await read('web01')
        between.cut()
        await Promise.all([read('web01'), read('sql01'), read('web01')])
        expect(logOns()).toBe(2)
        expect(lines).toEqual([])
      },
    )

    test.each(['ldaps', 'starttls'] as const)(
      '%s: nothing goes out over a connection after it has ended',
      async (transport) => {
        await using between = await relay(domain.ip, transport, domain.ip)
        const tls = { ca: await readFile(domain.ca) }
        const connection = openConnection({ host: domain.ip, port: between.port, transport, tls, timeout: 2_000 })
        await connection.secure()
        await connection.client.bind(`${domain.ccg.username}@${domain.dns}`, domain.ccg.password)
        expect(connection.isOpen()).toBe(true)
        between.cut()
        await expect.poll(() => connection.isOpen()).toBe(false)
        await expect(connection.client.search('', { scope: 'base' })).rejects.toThrow()
      },
    )

    describe('refused log-ons', () => {
      const states = [
        ['disabled', { disabled: true }],
        ['expired', { expired: true }],
        ['must-change', { mustChange: true }],
        ['locked', { locked: true }],
      ] as const
      test.each(states)('%s', async (reason, state) => {
        await domain.setAccount('outsider', state)
        const { read, lines } = await open({ login: () => domain.outsider })
        const error = await failure(read('web01'), 'STORE_DENIED')
        expect(error.reason).toBe(reason)
        expect(error.hint).toBeTruthy()
        expect(printed([error, lines])).not.toContain(domain.outsider.password)
        await domain.setAccount('outsider', {})
        expect((await failure(read('web01'), 'STORE_DENIED')).reason).toBe('not-permitted')
      })

      test('a wrong password is sent once, however often it is asked for, and says nothing of itself', async () => {
        const badPasswords = async () => Number((await ldapsearch('outsider', 'badPwdCount'))[0])
        const before = await badPasswords()
        const wrong: Login = { ...domain.outsider, password: 'Kanari-not-the-password' }
        const { read, lines, provider } = await open({ login: () => wrong })
        for (let time = 0; time < 4; time++) {
          const error = await failure(read('web01'), 'STORE_DENIED')
          expect(error.reason).toBe('bad-password')
          expect(printed([error, lines])).not.toContain('Kanari')
        }
        await failure(provider.probe(AbortSignal.timeout(5_000)), 'STORE_DENIED')
        expect((await badPasswords()) - before).toBeLessThanOrEqual(1)
      })

      test('a client certificate that the directory maps to nobody', async () => {
        const { client } = await makePki()
        const certificate = join(domain.state, 'client.crt')
        const key = join(domain.state, 'client.key')
        await writeFile(certificate, client.certificate)
        await writeFile(key, client.key, { mode: 0o600 })
        for (const transport of ['ldaps', 'starttls'] as const) {
          const { read } = await open({ options: { bind: { certificate, key }, transport } })
          const error = await failure(read('web01'), 'STORE_DENIED')
          expect(error.reason).toBe('not-permitted')
        }
      })
    })

    test('rights given after the log-on count at the next read', async () => {
      const { read, logOns } = await open({ login: () => domain.outsider })
      expect((await failure(read('sql01'), 'STORE_DENIED')).reason).toBe('not-permitted')
      const member = (verb: 'add' | 'delete') =>
        `dn: CN=gmsa-readers,CN=Users,@BASE@\nchangetype: modify\n${verb}: member\nmember: CN=outsider,CN=Users,@BASE@\n`
      await domain.modify(member('add'))
      await new Promise((resolve) => setTimeout(resolve, 2_100))
      expect((await read('sql01')).account.samAccountName).toBe('sql01$')
      expect(logOns()).toBe(2)
      await domain.modify(member('delete'))
    })

    test('a password changed in the directory and in the store is taken up without restart', async () => {
      const secrets = join(domain.state, 'secrets')
      await mkdir(secrets, { mode: 0o700 })
      const store = (password: string) => {
        const record = { username: 'svc-ccg', domainName: domain.dns, password }
        return writeFile(join(secrets, 'ccg.json'), JSON.stringify(record), { mode: 0o600 })
      }
      await store(domain.ccg.password)
      const bind = { provider: 'local', account: 'ccg' }
      // In the order in which the one needs the other last.
      const configs = new Map([
        [
          'ad',
          { type: 'active-directory', options: { domain: domain.dns, servers: [domain.ip], ca: domain.ca, bind } },
        ],
        ['local', { type: 'file', options: { directory: secrets } }],
      ])
      const providers = await openProviders(configs, { log: silentLog, clock: systemClock })
      closing.push(...providers.values())
      const ad = providers.get('ad')
      const read = (name: string) =>
        ad?.reads['managed-password']?.({ name, secret: name, options: {} }, AbortSignal.timeout(5_000))
      expect((await read('web01'))?.account.samAccountName).toBe('web01$')

      // Twice: the last password but one still logs on over the network for an hour.
      await domain.setPassword('svc-ccg', 'A-Passw0rd-in-between')
      await domain.setPassword('svc-ccg', 'Another-Passw0rd-of-the-lab')
      // A new log-on, as every minute: not permitted makes one at once when the last is two seconds old.
      await new Promise((resolve) => setTimeout(resolve, 2_100))
      const refused = await failure(read('secret01') ?? Promise.resolve(), 'STORE_DENIED')
      expect(refused.reason).toBe('bad-password')
      await store('Another-Passw0rd-of-the-lab')
      expect((await read('web01'))?.account.samAccountName).toBe('web01$')
      await domain.setPassword('svc-ccg', domain.ccg.password)
    })

    test('takes the key version from after the read that sets off a change; a clock set back is named', async () => {
      const { read } = await open()
      const before = await read('web01')
      await domain.clock('+0')
      const after = await read('web01')
      expect(after.kvno?.value).toBeGreaterThan(before.kvno?.value ?? 0)
      expect(after.kvno?.value).toBe(Number((await ldapsearch('web01$', 'msDS-KeyVersionNumber'))[0]))
      const [old, now] = [before, after].map(({ blob }) => parseManagedPassword(blob.reveal()))
      expect(now?.current.equals(old?.current ?? now.current)).toBe(false)
      await domain.clock('-2d')
      const error = await failure(read('web01'), 'STORE_UNAVAILABLE')
      expect(error.reason).toBe('clock')
      await domain.clock('+0')
    })
  },
)
