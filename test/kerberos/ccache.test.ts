import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { Secret } from '../../src/base/secret.ts'
import {
  type Ccache,
  CONFIG_REALM,
  type Credential,
  formatCcache,
  MAX_CCACHE_BYTES,
  parseCcache,
} from '../../src/kerberos/ccache.ts'
import { enctypeOf } from '../../src/kerberos/enctype.ts'
import { formatPrincipal, type Principal } from '../../src/kerberos/principal.ts'
import { needs, program } from '../lab/skip.ts'
import published from '../vectors/gmsad-ccache-sample.json' with { type: 'json' }

const hex = (data: Uint8Array) => Buffer.from(data).toString('hex')
const sample = Buffer.from(published.base64, 'base64')
const malformed = expect.objectContaining({ code: 'MATERIAL_MALFORMED' })

/** The keys in the open, so that two caches can be compared. */
const shown = ({ credentials, ...rest }: Ccache) => ({
  ...rest,
  credentials: credentials.map(({ sessionKey, ...each }) => ({
    ...each,
    sessionKey: `${sessionKey.enctype} ${hex(sessionKey.key.reveal())}`,
  })),
})

const uint32 = fc.nat(0xffff_ffff)
const blob = fc.uint8Array({ maxLength: 40 })
const principal: fc.Arbitrary<Principal> = fc.record({
  realm: fc.string({ unit: 'binary', maxLength: 20 }),
  components: fc.array(fc.string({ unit: 'binary', maxLength: 20 }), { maxLength: 4 }),
  nameType: uint32,
})
const typed = fc.array(fc.record({ type: fc.nat(0xffff), data: blob }), { maxLength: 3 })
const sessionKey = fc
  .tuple(
    fc.oneof(fc.constantFrom(0, 17, 18, 19, 20, 23), fc.integer({ min: -0x8000, max: 0x7fff })),
    fc.uint8Array({ minLength: 32, maxLength: 32 }),
  )
  .map(([enctype, key]) => ({ enctype, key: new Secret(key.slice(0, enctypeOf(enctype)?.keyLength ?? 3)) }))
const credential: fc.Arbitrary<Credential> = fc.record({
  client: principal,
  server: principal,
  sessionKey,
  authTime: uint32,
  startTime: uint32,
  endTime: uint32,
  renewTill: uint32,
  flags: uint32,
  isSkey: fc.boolean(),
  addresses: typed,
  authorizationData: typed,
  ticket: blob,
  secondTicket: blob,
})
const ccache: fc.Arbitrary<Ccache> = fc.record(
  {
    principal,
    clockSkew: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
    credentials: fc.array(credential, { maxLength: 3 }),
  },
  { requiredKeys: ['principal', 'credentials'] },
)

describe('the published credential cache', () => {
  test('is read as MIT klist shows it', () => {
    const { principal: owner, clockSkew, credentials } = parseCcache(sample)
    const { expected } = published
    expect(formatPrincipal(owner)).toBe(expected.defaultPrincipal)
    expect(owner.nameType).toBe(expected.nameType)
    expect(clockSkew).toBe(0)
    const [config, ticket] = credentials
    expect(credentials.length).toBe(expected.entries.length)
    expect(config && formatPrincipal(config.server)).toBe(expected.entries[0]?.server)
    expect(config?.server.realm).toBe(CONFIG_REALM)
    expect(Buffer.from(config?.ticket ?? []).toString()).toBe(expected.entries[0]?.configurationValue)
    const [, theirs] = expected.entries
    const seconds = (text: string | undefined) => Date.parse(text ?? '') / 1000
    expect(ticket && formatPrincipal(ticket.server)).toBe(theirs?.server)
    expect(ticket).toMatchObject({
      startTime: seconds(theirs?.starttime),
      endTime: seconds(theirs?.endtime),
      renewTill: seconds(theirs?.renewTill),
      flags: Number(`0x${theirs?.ticketFlagsHex}`),
      isSkey: false,
      addresses: [],
      authorizationData: [],
    })
    expect(ticket?.sessionKey).toMatchObject({ enctype: 18, key: { byteLength: 32 } })
    expect(ticket?.ticket[0]).toBe(0x61)
  })

  test('is written again byte for byte', () => {
    expect(sample.length).toBe(published.length)
    expect(hex(formatCcache(parseCcache(sample)))).toBe(hex(sample))
  })

  test('cut off at any byte it is refused', () => {
    // After the principal and after each credential a file may end.
    const whole = parseCcache(sample)
    const ends = [0, 1, 2].map(
      (count) => formatCcache({ ...whole, credentials: whole.credentials.slice(0, count) }).length,
    )
    for (let length = 0; length < sample.length; length++) {
      if (ends.includes(length))
        expect(parseCcache(sample.subarray(0, length)).credentials.length).toBe(ends.indexOf(length))
      else expect(() => parseCcache(sample.subarray(0, length)), `${length} bytes`).toThrow(malformed)
    }
  })
})

describe('a credential cache', () => {
  test('is read as it was written', () => {
    fc.assert(
      fc.property(ccache, (cache) => {
        const file = formatCcache(cache)
        expect(shown(parseCcache(file))).toEqual(shown(cache))
        expect(hex(formatCcache(parseCcache(file)))).toBe(hex(file))
      }),
    )
  })

  test('shows no session key when printed', () => {
    expect(JSON.stringify(parseCcache(sample))).toContain('"key":"[secret]"')
  })

  test('keeps its own copies: the file may be wiped', () => {
    const file = Buffer.from(sample)
    const cache = parseCcache(file)
    file.fill(0)
    expect(hex(formatCcache(cache))).toBe(hex(sample))
  })

  const [start, rest] = [sample.subarray(0, 2), sample.subarray(16)]
  const withHeader = (header: string) => Buffer.concat([start, Buffer.from(header, 'hex'), rest])

  test('may have a header without tags, with others, and one that says the time offset', () => {
    expect(parseCcache(withHeader('0000'))).not.toHaveProperty('clockSkew')
    expect(parseCcache(withHeader('000600020002abcd'))).not.toHaveProperty('clockSkew')
    expect(parseCcache(withHeader('000c00010008fffffffe0007a120')).clockSkew).toBe(-1500)
    expect(
      formatCcache({ ...parseCcache(sample), clockSkew: -1500 })
        .subarray(2, 16)
        .toString('hex'),
    ).toBe('000c00010008fffffffe0007a120')
  })

  test.each([
    ['nothing', Buffer.alloc(0)],
    ['version 3', Buffer.concat([Buffer.from('0503', 'hex'), sample.subarray(2)])],
    ['version 1, in the byte order of its machine', Buffer.from('0501', 'hex')],
    ['a keytab', Buffer.from('0502', 'hex')],
    ['a header longer than the file', withHeader('ffff')],
    ['a tag longer than the header', withHeader('000400010008')],
    ['a time offset of four bytes', withHeader('000800010004fffffffe')],
    ['a principal of more parts than fit', Buffer.concat([sample.subarray(0, 20), Buffer.from('ffffffff', 'hex')])],
    ['text', Buffer.from('FILE:/tmp/krb5cc_0')],
    // Name type 1, no component, and the realm 0xff.
    ['a principal that is not UTF-8', Buffer.from('05040000' + '00000001' + '00000000' + '00000001ff', 'hex')],
  ])('%s is none', (_what, file) => {
    expect(() => parseCcache(file)).toThrow(malformed)
  })

  test('4 MiB and more are not even looked at', () => {
    const long = Buffer.alloc(MAX_CCACHE_BYTES + 1)
    expect(() => parseCcache(long)).toThrow(/more than 4 MiB/)
    expect(() => parseCcache(long.subarray(1))).toThrow(/version/)
  })

  test('a session key of a length its enctype does not have is refused, read or written', () => {
    const cache = parseCcache(sample)
    const wrong = { enctype: 18, key: new Secret(Buffer.alloc(16)) }
    const credentials = cache.credentials.map((each) => ({ ...each, sessionKey: wrong }))
    expect(() => formatCcache({ ...cache, credentials })).toThrow(malformed)
    const at = sample.indexOf(Buffer.from('0012' + '00000020', 'hex'))
    const changed = Buffer.from(sample)
    changed[at + 1] = 17
    expect(() => parseCcache(changed)).toThrow(/session key of wrong length for aes128/)
  })

  const [, ticket] = parseCcache(sample).credentials
  test.each([
    ['a time after 2106', { endTime: 2 ** 32 }],
    ['a time before 1970', { authTime: -1 }],
    ['half a second', { startTime: 0.5 }],
    ['flags of 33 bits', { flags: 2 ** 32 }],
    ['a name that is no Unicode', { client: { realm: 'R', components: ['\ud800'], nameType: 1 } }],
    ['a name type out of range', { client: { realm: 'R', components: ['a'], nameType: -1 } }],
    ['an enctype of 17 bits', { sessionKey: { enctype: 0x8000, key: new Secret(Buffer.alloc(1)) } }],
    ['a type of 17 bits', { addresses: [{ type: 0x1_0000, data: new Uint8Array() }] }],
    ['a ticket of 5 MiB', { ticket: new Uint8Array(5 << 20) }],
  ])('%s can not be written', (_what, change) => {
    if (!ticket) expect.unreachable()
    expect(() => formatCcache({ principal: ticket.client, credentials: [{ ...ticket, ...change }] })).toThrow(malformed)
  })

  test('neither can a clock skew of 70 years', () => {
    expect(() => formatCcache({ ...parseCcache(sample), clockSkew: 2 ** 31 * 1000 })).toThrow(malformed)
    expect(() => formatCcache({ ...parseCcache(sample), clockSkew: Number.NaN })).toThrow(malformed)
  })

  test('no bytes up to 64 KiB, and no damaged file, make the reader throw anything but its own error', () => {
    const damaged = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }).map((changes) => {
      const changed = Buffer.from(sample)
      for (const [at, value] of changes) changed[at % changed.length] = value
      return changed
    })
    const long = fc.uint8Array({ maxLength: 1 << 16, size: 'max' })
    const headed = long.map((junk) => Buffer.concat([Buffer.from('05040000', 'hex'), junk]))
    fc.assert(
      fc.property(fc.oneof({ weight: 8, arbitrary: damaged }, fc.uint8Array(), long, headed), (file) => {
        try {
          parseCcache(file)
        } catch (error) {
          if (!(error instanceof GmsaError)) throw error
          expect(error).toEqual(malformed)
        }
      }),
      { numRuns: 300 },
    )
  })
})

describe.skipIf(!needs('krb5'))('MIT Kerberos', () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'ccache-'))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  function klist(cache: Ccache, ...args: readonly string[]): string {
    const file = join(folder, 'ccache')
    writeFileSync(file, formatCcache(cache), { mode: 0o600 })
    const env = { LC_ALL: 'C', TZ: 'UTC', KRB5_CONFIG: '/dev/null', PATH: process.env['PATH'] }
    const { status, stdout, stderr } = spawnSync(program('klist') ?? 'klist', ['-c', ...args, file], {
      env,
      timeout: 10_000,
    })
    expect(stderr.toString()).toBe('')
    expect(status).toBe(0)
    return stdout.toString()
  }

  const web01: Principal = { realm: 'AD.TEST', components: ['web01$'], nameType: 1 }
  const made: Credential = {
    client: web01,
    server: { realm: 'AD.TEST', components: ['krbtgt', 'AD.TEST'], nameType: 2 },
    sessionKey: { enctype: 17, key: new Secret(Buffer.alloc(16, 1)) },
    authTime: 1_700_000_000,
    startTime: 1_700_000_060,
    endTime: 1_700_036_000,
    renewTill: 1_700_604_800,
    flags: 0x40e10000,
    isSkey: false,
    addresses: [],
    authorizationData: [],
    ticket: parseCcache(sample).credentials[1]?.ticket ?? new Uint8Array(),
    secondTicket: new Uint8Array(),
  }

  test('klist shows a ticket of ours, its times, flags and enctypes', () => {
    const said = klist({ principal: web01, clockSkew: 0, credentials: [made] }, '-e', '-f', '-a')
    expect(said).toContain('Default principal: web01$@AD.TEST')
    expect(said).toMatch(/^11\/14\/23 22:14:20 {2}11\/15\/23 08:13:20 {2}krbtgt\/AD\.TEST@AD\.TEST$/m)
    expect(said).toContain('renew until 11/21/23 22:13:20, Flags: FRIA')
    expect(said).toContain('Etype (skey, tkt): aes128-cts-hmac-sha1-96, aes256-cts-hmac-sha1-96')
    expect(said).toContain('Addresses: (none)')
  })

  test('klist shows the configuration of one, and a file without time offset', () => {
    const config: Credential = {
      ...made,
      server: { realm: CONFIG_REALM, components: ['krb5_ccache_conf_data', 'pa_type', 'krbtgt/A@A'], nameType: 0 },
      sessionKey: { enctype: 0, key: new Secret(new Uint8Array()) },
      ticket: Buffer.from('2'),
    }
    expect(klist({ principal: web01, credentials: [config, made] }, '-C')).toContain('config: pa_type(krbtgt/A@A) = 2')
  })
})
