import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeFileAtomically } from '../../src/base/atomic-file.ts'
import { systemClock } from '../../src/base/clock.ts'
import { Secret } from '../../src/base/secret.ts'
import { deriveKeys } from '../../src/cli/keys-report.ts'
import { requestTicket, type TicketRequest } from '../../src/kerberos/as-exchange.ts'
import type { Ticket } from '../../src/kerberos/as-reply.ts'
import { type Credential, formatCcache, parseCcache } from '../../src/kerberos/ccache.ts'
import { ENCTYPE_WORDS, type EnctypeWord } from '../../src/kerberos/enctype.ts'
import { type KerberosKeys, keytabEntries } from '../../src/kerberos/keys.ts'
import { encodeKeytab } from '../../src/kerberos/keytab.ts'
import { locateKdcs } from '../../src/kerberos/locate-kdcs.ts'
import { parsePrincipal } from '../../src/kerberos/principal.ts'
import { failure } from '../contract/provider-contract.ts'
import { type CliResult, runCli } from '../fakes/cli.ts'
import { type Domain, startDomain } from '../lab/domain.ts'
import { needs } from '../lab/skip.ts'
import { openRig } from '../providers/active-directory/rig.ts'

const HOUR = 3_600_000

describe.skipIf(!needs('samba', 'krb5', 'gssapi'))('the AS exchange of real gMSAs', () => {
  let domain: Domain
  let keys: Readonly<Record<'web01' | 'sql01', KerberosKeys>>
  const config = () => join(domain.state, 'doctor.json')

  beforeAll(async () => {
    domain = await startDomain({ realm: 'random' })
    await using rig = await openRig(domain)
    const read = async (account: string) => {
      const options = { enctypes: ENCTYPE_WORDS }
      return (await deriveKeys(await rig.read(account), options, Date.now())).keys
    }
    keys = { web01: await read('web01'), sql01: await read('sql01') }
    const secrets = join(domain.state, 'secrets')
    await mkdir(secrets, { mode: 0o700 })
    const record = { username: domain.ccg.username, password: domain.ccg.password, domainName: domain.dns }
    await writeFile(join(secrets, 'svc-ccg.json'), JSON.stringify(record), { mode: 0o600 })
    const account = { provider: 'ad', samAccountName: 'web01$' }
    await writeConfig({
      web01: account,
      renamed: { ...account, salt: `${domain.realm}hostold01.${domain.dns}` },
      rc4: { ...account, enctypes: ['rc4'] },
    })
  })
  afterAll(() => domain?.[Symbol.asyncDispose]())

  async function writeConfig(accounts: object): Promise<void> {
    const bind = { provider: 'local', account: 'svc-ccg' }
    const providers = {
      local: { type: 'file', directory: 'secrets' },
      ad: { type: 'active-directory', domain: domain.dns, servers: [domain.ip], ca: domain.ca, bind },
    }
    const tls = { certificate: 'none.crt', key: 'none.key', clientCa: 'none.crt' }
    await writeFile(
      config(),
      JSON.stringify({ tls, providers, accounts: { 'svc-ccg': { provider: 'local' }, ...accounts } }),
    )
  }

  async function ticketFor(
    account: 'web01' | 'sql01',
    words: readonly EnctypeWord[],
    more: Partial<TicketRequest> = {},
  ): Promise<Ticket> {
    const numbers = words.map(
      (word) => ({ aes256: 18, aes128: 17, rc4: 23, 'aes256-sha2': 20, 'aes128-sha2': 19 })[word],
    )
    return requestTicket({
      client: parsePrincipal(`${account}$@${domain.realm}`),
      keys: keys[account].keys.filter(({ phase, enctype }) => phase === 'current' && numbers.includes(enctype)),
      salt: keys[account].salt,
      kdcs: () => locateKdcs({ realm: domain.realm, config: domain.env['KRB5_CONFIG'], random: Math.random }),
      clock: systemClock,
      random: randomBytes,
      ...more,
    })
  }

  async function store({ credential, clockSkew }: Ticket): Promise<string> {
    const file = join(domain.state, `ccache-${randomBytes(4).toString('hex')}`)
    const cache = { principal: credential.client, clockSkew, credentials: [credential] }
    await writeFileAtomically(file, formatCcache(cache))
    return `FILE:${file}`
  }

  test.each(['aes256', 'aes128', 'rc4'] as const)(
    '%s: klist shows the ticket, kvno gets one for a service with it',
    async (word) => {
      const ticket = await ticketFor('web01', [word])
      expect(ticket.notes).toEqual([])
      expect(ticket.kvno).toBe(keys.web01.keys.find(({ phase }) => phase === 'current')?.kvno)
      const ccache = await store(ticket)
      const shown = await domain.run('klist', ['-e', '-f', ccache])
      expect(shown.stdout).toContain(`Default principal: web01$@${domain.realm}`)
      expect(shown.stdout).toContain(`krbtgt/${domain.realm}@${domain.realm}`)
      expect(await domain.run('klist', ['-s', ccache])).toMatchObject({ code: 0 })
      const service = `MSSQLSvc/sql01.${domain.dns}:1433`
      expect(await domain.run('kvno', ['-c', ccache, service])).toMatchObject({ code: 0, stderr: '' })
    },
  )

  test.each(['aes256', 'aes128'] as const)('%s: a service takes web01$ at its word by GSS-API', async (word) => {
    const service = parsePrincipal(`MSSQLSvc/sql01.${domain.dns}:1433@${domain.realm}`)
    const keytab = join(domain.state, 'sql01.keytab')
    await writeFileAtomically(keytab, encodeKeytab(keytabEntries(keys.sql01, 'acceptor', [service])))
    const acceptor = join(import.meta.dirname, '../lab/acceptor.py')
    const name = `${service.components.join('/')}@${domain.realm}`
    const said = await domain.run('/usr/bin/python3', [
      acceptor,
      keytab,
      name,
      await store(await ticketFor('web01', [word])),
    ])
    expect(said.stderr).toBe('')
    const client = { client: `web01$@${domain.realm}` }
    expect(JSON.parse(said.stdout)).toEqual({ strict: client, any: client })
  })

  /** The fields that do not differ from one ticket to the next. */
  const comparable = ({
    client,
    server,
    sessionKey,
    flags,
    isSkey,
    addresses,
    authorizationData,
    startTime,
    authTime,
    ticket,
  }: Credential) => ({
    client,
    server,
    enctype: sessionKey.enctype,
    flags,
    isSkey,
    addresses,
    authorizationData,
    starts: startTime - authTime,
    ticketStart: Buffer.from(ticket.subarray(0, 1)).toString('hex'),
  })

  test('a ticket is what kinit gets with the keytab, field by field', async () => {
    const [keytab, theirs] = [join(domain.state, 'web01.keytab'), join(domain.state, 'kinit')]
    const client = parsePrincipal(`web01$@${domain.realm}`)
    await writeFileAtomically(keytab, encodeKeytab(keytabEntries(keys.web01, 'initiator', [client])))
    const args = ['-k', '-t', keytab, '-c', `FILE:${theirs}`, '-r', '2d', '-f', `web01$@${domain.realm}`]
    expect(await domain.run('kinit', args)).toMatchObject({ code: 0, stderr: '' })
    const kinits = parseCcache(await readFile(theirs))
    const their = kinits.credentials.find(({ server }) => server.components[0] === 'krbtgt')
    const { credential } = await ticketFor('web01', ['aes256'], { renewLifetime: 48 * HOUR, forwardable: true })
    expect(comparable(credential)).toEqual(their && comparable(their))
    expect(credential.client).toEqual(kinits.principal)
    // The directory decides how long: ten hours and at most a week.
    expect(Math.abs(credential.endTime - (their?.endTime ?? 0))).toBeLessThan(10)
    expect(Math.abs(credential.renewTill - (their?.renewTill ?? 0))).toBeLessThan(10)
  })

  test('a renewable ticket can be renewed, another can not', async () => {
    const renewable = await store(await ticketFor('web01', ['aes256'], { renewLifetime: 24 * HOUR, lifetime: HOUR }))
    expect(await domain.run('kinit', ['-R', '-c', renewable])).toMatchObject({ code: 0, stderr: '' })
    const other = await ticketFor('web01', ['aes256'], { lifetime: HOUR })
    expect(other.credential.renewTill).toBe(0)
    expect(other.credential.endTime - other.credential.startTime).toBeLessThanOrEqual(3_600)
    expect((await domain.run('kinit', ['-R', '-c', await store(other)])).code).not.toBe(0)
  })

  test.each(['udp', 'tcp'] as const)('by %s alone', async (transport) => {
    const kdcs = { kdcs: [{ host: domain.ip, port: 88, transport }], udpPreferenceLimit: 1465 }
    expect((await ticketFor('web01', ['aes256'], { kdcs })).kdc).toBe(`${domain.ip}:88`)
  })

  test('the directory has no keys of the SHA-2 types', async () => {
    expect((await failure(ticketFor('web01', ['aes256-sha2', 'aes128-sha2']), 'STORE_DENIED')).reason).toBe(
      'no-enctype',
    )
  })

  test.each([
    ['web01$', 'STORE_DENIED', 'bad-password'],
    ['ghost$', 'ACCOUNT_NOT_FOUND', 'not-found'],
  ] as const)('%s with a key that nobody has: %s, %s', async (name, code, reason) => {
    const client = parsePrincipal(`${name}@${domain.realm}`)
    const wrong = [{ enctype: 18, key: new Secret(Buffer.alloc(32, 1)) }]
    expect((await failure(ticketFor('web01', [], { client, keys: wrong }), code)).reason).toBe(reason)
  })

  describe('as doctor sees it', () => {
    const doctor = (account: string, ...args: readonly string[]): Promise<CliResult> =>
      runCli(['doctor', account, '--config', config(), ...args], {
        env: { KRB5_CONFIG: domain.env['KRB5_CONFIG'] ?? '' },
      })
    const control = (value: number) =>
      domain.modify(
        `dn: CN=web01,CN=Managed Service Accounts,@BASE@\nchangetype: modify\nreplace: userAccountControl\nuserAccountControl: ${value}\n`,
      )

    test('all is well: the clock of the controller that gave the password, and a ticket from it', async () => {
      const { stdout, code } = await doctor('web01')
      expect(stdout).toMatch(new RegExp(`^ok +clock +${domain.ip}:88 is \\d s (?:behind|ahead)$`, 'm'))
      expect(stdout).toMatch(
        new RegExp(
          `^ok +AS exchange +web01\\$@${domain.realm} gets a ticket from ${domain.ip}:88 with aes256-\\S+, kvno \\d+$`,
          'm',
        ),
      )
      expect(code).toBe(0)
      expect((await doctor('rc4')).stdout).toMatch(/^ok +AS exchange .* with arcfour-hmac, kvno/m)
    })

    test('a key that the controller does not take, for its salt is another one', async () => {
      const { stdout, code } = await doctor('renamed')
      expect(stdout).toMatch(/^ok +clock /m)
      expect(stdout).toMatch(/^failed +AS exchange .*KDC_ERR_PREAUTH_FAILED.* \[bad-password\]$/m)
      expect(stdout).toContain(`salt "${keys.web01.salt}"`)
      expect(code).toBe(1)
    })

    test('a controller that is not there', async () => {
      const { stdout } = await doctor('web01', '--dc', '127.0.0.1')
      expect(stdout).toMatch(/^failed +clock .*no KDC answers.* \[refused\]$/m)
      expect(stdout).toMatch(/hint: .*port 88/)
      expect(stdout).toMatch(/^skipped +AS exchange /m)
    })

    test('a disabled account', async () => {
      await control(4098)
      const { stdout, code } = await doctor('web01')
      expect(stdout).toMatch(/^failed +AS exchange .*KDC_ERR_CLIENT_REVOKED.* \[disabled\]$/m)
      expect(stdout).toMatch(/hint: .*userAccountControl/)
      expect(code).toBe(1)
      await control(4096)
      expect((await doctor('web01')).code).toBe(0)
    })

    test('a clock ten minutes off, and yet a ticket can be had', async () => {
      await domain.clock('+10m')
      const { stdout, code } = await doctor('web01')
      expect(stdout).toMatch(/^failed +clock +\S+ is 600 s ahead: Kerberos takes no more than 300 s \[clock\]$/m)
      expect(stdout).toMatch(/hint: synchronise the clocks/)
      expect(code).toBe(1)
      expect(Math.abs((await ticketFor('web01', ['aes256'])).clockSkew - 600_000)).toBeLessThan(5_000)
    })
  })
})
