import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Secret } from '../../src/base/secret.ts'
import { aesSha1StringToKey } from '../../src/crypto/string-to-key.ts'
import { formatManagedPassword, utf16ToUtf8 } from '../../src/gmsa/managed-password.ts'
import { runCli } from '../fakes/cli.ts'
import { type Behaviour, honestKdc, startKdc } from '../fakes/kdc.ts'
import { errorMessage } from '../fakes/kdc-messages.ts'

const SALT = 'AD.TESThostweb01.ad.test'
const password = Buffer.alloc(256, 'a managed password of a gMSA; ', 'utf16le')
const HOUR = 36_000_000_000n

describe('doctor on a gMSA whose password a file holds', () => {
  let folder: string
  let key: Uint8Array

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gmsa-doctor-'))
    key = await aesSha1StringToKey(32, utf16ToUtf8(password), Buffer.from(SALT))
    const blob = formatManagedPassword({
      current: new Secret(Buffer.from(password)),
      queryInterval: 10n * HOUR,
      unchangedInterval: 9n * HOUR,
    })
    const record = { managedPassword: blob.toString('base64'), samAccountName: 'web01$', domain: 'ad.test', kvno: 3 }
    await mkdir(join(folder, 'secrets'), { mode: 0o700 })
    await writeFile(join(folder, 'secrets/web01.json'), JSON.stringify(record), { mode: 0o600 })
    const config = {
      tls: { certificate: 'none.crt', key: 'none.key', clientCa: 'none.crt' },
      providers: { local: { type: 'file', directory: 'secrets' } },
      accounts: { web01: { provider: 'local' } },
    }
    await writeFile(join(folder, 'config.json'), JSON.stringify(config))
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  async function doctor(behaviour: Partial<Behaviour>) {
    await using kdc = await startKdc(honestKdc({ now: Date.now, key: () => key, salt: SALT, ...behaviour }))
    return await doctorAt(`${kdc.kdc.host}:${kdc.kdc.port}`)
  }
  async function doctorAt(kdc: string, ...more: readonly string[]) {
    await writeFile(join(folder, 'krb5.conf'), `[realms]\nAD.TEST = {\nkdc = ${kdc}\n}\n`)
    const env = { KRB5_CONFIG: join(folder, 'krb5.conf') }
    return await runCli(['doctor', 'web01', '--config', join(folder, 'config.json'), ...more], { env })
  }

  test('has a ticket for proof, from the KDC that krb5.conf names', async () => {
    const { stdout, code } = await doctor({})
    expect(stdout).toMatch(/^ok +keys +aes256, aes128 under kvno 3 for web01\$@AD\.TEST;/m)
    expect(stdout).toMatch(/^ok +clock +127\.0\.0\.1:\d+ is 0 s (?:behind|ahead)$/m)
    expect(stdout).toMatch(
      /^ok +AS exchange +web01\$@AD\.TEST gets a ticket from 127\.0\.0\.1:\d+ with aes256-cts-hmac-sha1-96, kvno 3$/m,
    )
    expect(code).toBe(0)
  })

  test('does without a KDC where none is in reach, unless one is named', async () => {
    const { stdout, code } = await doctorAt('127.0.0.1:1')
    expect(stdout).toMatch(/^warning +clock .*\[refused\]$/m)
    expect(stdout).toMatch(/^warning +AS exchange .*\[refused\]$/m)
    expect(code).toBe(0)
    const named = await doctorAt('127.0.0.1:1', '--dc', '127.0.0.77')
    expect(named.stdout).toMatch(/^failed +clock .*\[refused\]$/m)
    expect(named.code).toBe(1)
  })

  test('says what is odd although the key is right', async () => {
    const { stdout, code } = await doctor({ kvno: 4, info: [{ enctype: 18, salt: 'other', rounds: 1 }] })
    expect(stdout).toMatch(
      /^ok +AS exchange .*kvno 4; .*another salt.*; .*another number of rounds.*; .*another kvno$/m,
    )
    expect(code).toBe(0)
  })

  test('takes a KDC that says nothing of its clock at its ticket', async () => {
    const { stdout, code } = await doctor({ preauth: false })
    expect(stdout).toMatch(/^ok +clock +127\.0\.0\.1:\d+ does not say$/m)
    expect(stdout).toMatch(/^ok +AS exchange /m)
    expect(code).toBe(0)
  })

  test.each([
    ['a clock that is off', { ahead: -400_000 }, /^failed +clock +\S+ is 400 s behind: .*\[clock\]$/m, /synchronise/],
    ['another key', { key: () => new Uint8Array(32) }, /^failed +AS exchange .*\[bad-password\]$/m, /changed since/],
    [
      'an unknown name',
      { first: () => errorMessage(6, Date.now()) },
      /^failed +AS exchange .*\[not-found\]$/m,
      /sAMAccountName/,
    ],
    ['nonsense', { first: () => Buffer.from('?') }, /^failed +clock .*\[protocol\]$/m, /port 88/],
  ] as const)('names %s, with a hint and never a key', async (_what, behaviour, said, hint) => {
    const { stdout, code } = await doctor(behaviour)
    expect(stdout).toMatch(said)
    expect(stdout).toMatch(new RegExp(`hint: .*${hint.source}`))
    expect(stdout).not.toContain(Buffer.from(key).toString('hex'))
    expect(code).toBe(1)
  })
})
