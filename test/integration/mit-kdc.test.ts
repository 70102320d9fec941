import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { Secret } from '../../src/base/secret.ts'
import { aesSha1StringToKey, aesSha2StringToKey, ntHash } from '../../src/crypto/string-to-key.ts'
import { readKdcTime, requestTicket, type TicketRequest } from '../../src/kerberos/as-exchange.ts'
import type { Ticket } from '../../src/kerberos/as-reply.ts'
import { CONFIG_REALM, type Credential, formatCcache, parseCcache } from '../../src/kerberos/ccache.ts'
import { encodeKeytab } from '../../src/kerberos/keytab.ts'
import { locateKdcs } from '../../src/kerberos/locate-kdcs.ts'
import { NAME_TYPES } from '../../src/kerberos/principal.ts'
import { failure } from '../contract/provider-contract.ts'
import { type MitKdc, type MitPrincipal, startMitKdc } from '../lab/mit-kdc.ts'
import { needs, program } from '../lab/skip.ts'

const PASSWORD = 'a password of the lab'
const ENCTYPES = { 17: 'aes128-cts', 18: 'aes256-cts', 19: 'aes128-sha2', 20: 'aes256-sha2', 23: 'rc4-hmac' } as const
type Enctype = keyof typeof ENCTYPES
const ALL = [18, 17, 20, 19, 23] as const
const HOUR = 3_600_000

const preauth = '+requires_preauth'
const account = (name: string, ...flags: readonly string[]): MitPrincipal => {
  return { name, password: PASSWORD, enctypes: Object.values(ENCTYPES), flags }
}

/** The key that the KDC has for a principal of the lab. */
async function keyOf(realm: string, name: string, enctype: Enctype): Promise<Secret> {
  const [password, salt] = [Buffer.from(PASSWORD), Buffer.from(`${realm}${name}`)]
  if (enctype === 23) return new Secret(ntHash(Buffer.from(PASSWORD, 'utf16le')))
  const derive = enctype < 19 ? aesSha1StringToKey : aesSha2StringToKey
  return new Secret(await derive(enctype % 2 === 0 ? 32 : 16, password, salt))
}

describe.skipIf(!needs('krb5', 'krb5-kdc'))('the AS exchange with an MIT KDC', () => {
  let kdc: MitKdc
  beforeAll(async () => {
    kdc = await startMitKdc([
      account('web01$', preauth),
      account('open$', '-requires_preauth'),
      account('expired$', preauth, '-expire', '"1 Jan 2020"'),
      account('stale$', preauth, '-pwexpire', '"1 Jan 2020"'),
      account('revoked$', preauth, '-allow_tix'),
      account('HTTP/web01.mit.test'),
      { ...account('weak$', preauth), enctypes: ['rc4-hmac'] },
    ])
  })
  afterAll(() => kdc?.[Symbol.asyncDispose]())

  const principal = (name: string, realm = kdc.realm) => {
    return { realm, components: [name], nameType: NAME_TYPES.principal }
  }

  async function requestFor(name: string, enctypes: readonly Enctype[], at = kdc): Promise<TicketRequest> {
    const keys = enctypes.map(async (enctype) => ({ enctype, key: await keyOf(at.realm, name, enctype) }))
    return {
      client: principal(name, at.realm),
      keys: await Promise.all(keys),
      salt: `${at.realm}${name}`,
      kdcs: () => locateKdcs({ realm: at.realm, config: at.env['KRB5_CONFIG'], random: Math.random }),
      clock: systemClock,
      random: randomBytes,
    }
  }

  async function ticketFor(name: string, enctypes: readonly Enctype[], more: Partial<TicketRequest> = {}, at = kdc) {
    return requestTicket({ ...(await requestFor(name, enctypes, at)), ...more })
  }

  async function store({ credential, clockSkew }: Ticket, at = kdc): Promise<string> {
    const file = join(at.state, `ccache-${randomBytes(4).toString('hex')}`)
    const cache = { principal: credential.client, clockSkew, credentials: [credential] }
    await writeFile(file, formatCcache(cache), { mode: 0o600 })
    return file
  }

  function run(name: string, args: readonly string[], at = kdc) {
    const { status, stdout, stderr } = spawnSync(program(name) ?? name, args, { env: at.env, timeout: 20_000 })
    return { code: status, stdout: stdout.toString(), stderr: stderr.toString() }
  }

  test.each(ALL)('enctype %d: a ticket, which gets a service ticket', async (enctype) => {
    const ticket = await ticketFor('web01$', [enctype])
    expect(ticket).toMatchObject({ enctype, notes: [] })
    expect(ticket.credential.sessionKey.enctype).toBe(enctype)
    expect(Math.abs(ticket.clockSkew)).toBeLessThan(2_000)
    const file = await store(ticket)
    expect(run('klist', ['-c', file]).stdout).toContain(`Default principal: web01$@${kdc.realm}`)
    expect(run('kvno', ['-c', file, 'HTTP/web01.mit.test'])).toMatchObject({ code: 0, stderr: '' })
  })

  test('of several keys the first that the KDC has too is taken', async () => {
    expect((await ticketFor('web01$', ALL)).enctype).toBe(18)
    expect((await ticketFor('weak$', ALL)).enctype).toBe(23)
  })

  test('a principal that needs no pre-authentication', async () => {
    const { notes, clockSkew } = await ticketFor('open$', [18])
    expect(notes).toEqual([])
    expect(Math.abs(clockSkew)).toBeLessThan(2_000)
    expect(await readKdcTime(await requestFor('open$', [18]))).not.toHaveProperty('time')
  })

  test.each(['udp', 'tcp'] as const)('over %s alone', async (transport) => {
    const only = [{ host: kdc.host, port: kdc.port, transport }]
    const { credential } = await ticketFor('web01$', [18], { kdcs: { kdcs: only, udpPreferenceLimit: 1465 } })
    expect(credential.endTime * 1000).toBeGreaterThan(Date.now())
  })

  /** What can be compared: not the keys, nor what is sealed for the KDC, nor the second of the request. */
  const comparable = ({ sessionKey, ticket, authTime, startTime, endTime, renewTill, ...rest }: Credential) => ({
    ...rest,
    enctype: sessionKey.enctype,
    keyLength: sessionKey.key.byteLength,
    ticketLength: ticket.length,
    ticketStart: Buffer.from(ticket.subarray(0, 40)).toString('hex'),
    starts: startTime - authTime,
    lives: endTime - startTime,
    isRenewableFor: renewTill === 0 ? 0 : renewTill - startTime,
  })

  const flags: readonly (readonly [string, readonly string[], Partial<TicketRequest>])[] = [
    [
      'renewable and forwardable',
      ['-l', '9h', '-r', '3d', '-f'],
      { lifetime: 9 * HOUR, renewLifetime: 72 * HOUR, forwardable: true },
    ],
    ['short', ['-l', '10m', '-F'], { lifetime: 10 * 60_000 }],
  ]
  test.each(flags)('a %s ticket is what kinit gets with the same key, field by field', async (_what, args, options) => {
    const [keytab, theirs] = [join(kdc.state, 'keytab'), join(kdc.state, 'kinit')]
    const entry = {
      principal: principal('web01$'),
      timestamp: 0,
      kvno: 1,
      enctype: 18,
      key: await keyOf(kdc.realm, 'web01$', 18),
    }
    await writeFile(keytab, encodeKeytab([entry]), { mode: 0o600 })
    const said = run('kinit', ['-k', '-t', keytab, '-c', theirs, ...args, `web01$@${kdc.realm}`])
    expect(said.stderr).toBe('')
    const ticket = await ticketFor('web01$', [18], options)
    const ours = parseCcache(await readFile(await store(ticket)))
    const kinits = parseCcache(await readFile(theirs))
    expect(ours.principal).toEqual(kinits.principal)
    const tickets = kinits.credentials.filter(({ server }) => server.realm !== CONFIG_REALM)
    const [our, their] = [ours.credentials, tickets].map((each) => each.map(comparable)[0])
    // kinit asks for an end in whole seconds, we for one to the millisecond.
    for (const field of ['lives', 'isRenewableFor'] as const)
      expect(Math.abs((our?.[field] ?? 0) - (their?.[field] ?? 9))).toBeLessThan(2)
    expect({ ...our, lives: 0, isRenewableFor: 0 }).toEqual({ ...their, lives: 0, isRenewableFor: 0 })
    const file = await readFile(theirs)
    expect(formatCcache(kinits).equals(file)).toBe(true)
  })

  test('a renewable ticket can be renewed by kinit, another can not', async () => {
    const renewable = await store(await ticketFor('web01$', [18], { renewLifetime: 24 * HOUR, lifetime: HOUR }))
    expect(run('kinit', ['-R', '-c', renewable])).toMatchObject({ code: 0, stderr: '' })
    const other = await store(await ticketFor('web01$', [18]))
    expect(run('kinit', ['-R', '-c', other]).stderr).toMatch(/KDC can't fulfill requested option/)
  })

  test.each([
    ['web01$', 'STORE_DENIED', 'bad-password', /KDC_ERR_PREAUTH_FAILED/],
    ['nobody$', 'ACCOUNT_NOT_FOUND', 'not-found', /KDC_ERR_C_PRINCIPAL_UNKNOWN/],
    ['expired$', 'STORE_DENIED', 'expired', /KDC_ERR_NAME_EXP/],
    ['stale$', 'STORE_DENIED', 'password-expired', /KDC_ERR_KEY_EXPIRED/],
    ['revoked$', 'STORE_DENIED', 'disabled', /KDC_ERR_CLIENT_REVOKED/],
  ] as const)('%s is refused: %s, %s', async (name, code, reason, words) => {
    // Where the key does not matter it is right, so that it is not the reason.
    const keys = name === 'web01$' ? [{ enctype: 18, key: new Secret(Buffer.alloc(32, 1)), kvno: 1 }] : undefined
    const error = await failure(ticketFor(name, [18], keys && { keys }), code)
    expect(error.reason).toBe(reason)
    expect(error.message).toMatch(words)
    expect(error.hint).toBeTruthy()
  })

  test('to whom it has no key of any enctype asked for an MIT KDC says the same as to a wrong key', async () => {
    expect((await failure(ticketFor('weak$', [18]), 'STORE_DENIED')).reason).toBe('bad-password')
  })

  test('a wrong salt is seen in the KDC’s demand', async () => {
    const keys = [{ enctype: 18, key: await keyOf(kdc.realm, 'other$', 18) }]
    const error = await failure(ticketFor('web01$', [18], { keys, salt: `${kdc.realm}other$` }), 'STORE_DENIED')
    expect(error.hint).toContain(`"${kdc.realm}web01$"`)
  })

  test.each([7_200, -7_200])(
    'a KDC %d seconds ahead gives a ticket all the same, and its file sets MIT right',
    async (ahead) => {
      await using other = await startMitKdc([account('web01$', preauth), account('HTTP/web01.mit.test')], ahead)
      expect((await readKdcTime(await requestFor('web01$', [18], other))).time).toBeCloseTo(
        Date.now() + ahead * 1000,
        -4,
      )
      const ticket = await ticketFor('web01$', [18], {}, other)
      expect(Math.abs(ticket.clockSkew - ahead * 1000)).toBeLessThan(2_000)
      const file = await store(ticket, other)
      // By our clock; without the offset in the file the KDC would refuse it.
      expect(run('kvno', ['-c', file, 'HTTP/web01.mit.test'], other)).toMatchObject({ code: 0, stderr: '' })
      const bare = await store({ ...ticket, clockSkew: 0 }, other)
      expect(run('kvno', ['-c', bare, 'HTTP/web01.mit.test'], other).code).not.toBe(0)
    },
  )
})
