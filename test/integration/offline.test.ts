import { readFileSync } from 'node:fs'
import { mkdtemp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Client, type Entry } from 'ldapts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Clock } from '../../src/base/clock.ts'
import { GmsaError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { openBroker } from '../../src/broker/broker.ts'
import type { Finding } from '../../src/cli/findings.ts'
import { rolloverOf } from '../../src/gmsa/cycle.ts'
import { millisecondsOf } from '../../src/gmsa/file-time.ts'
import { startOfGkid } from '../../src/gmsa/gkid.ts'
import { parseKeyIdentifier } from '../../src/gmsa/key-identifier.ts'
import { parseManagedPassword } from '../../src/gmsa/managed-password.ts'
import { formatKdfParam } from '../../src/gmsa/root-key.ts'
import { formatSid } from '../../src/gmsa/sid.ts'
import { openKdsRootKey } from '../../src/providers/kds-root-key/open.ts'
import { parseRootKeys } from '../../src/providers/root-key-records.ts'
import { brokerEvents } from '../fakes/broker-events.ts'
import { runCli } from '../fakes/cli.ts'
import { makePki, writePki } from '../fakes/pki.ts'
import { type Domain, startDomain } from '../lab/domain.ts'
import { needs } from '../lab/skip.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const BYTES = ['msDS-ManagedPassword', 'msDS-ManagedPasswordId', 'objectSid']

/** What is wrong in one configuration. */
interface Change {
  readonly without?: boolean
  readonly damaged?: boolean
  readonly port?: number
  /** The account was made ten hours earlier than it was: with an interval of two cycles, changes lie between. */
  readonly cycleOff?: boolean
}

/** What the directory says of an account, at the moment that its clock stands at. */
interface Told {
  readonly blob: Buffer
  readonly id: Buffer
  readonly sid: string
  readonly whenCreated: string
  readonly kvno: number
  readonly days: number
}

describe.skipIf(!needs('samba', 'krb5', 'ldap-utils'))('passwords derived without the controller that has them', () => {
  let domain: Domain
  /** Where the clocks of the controller and of the derivation stand, in ms since 1970. */
  let now = 0
  const clock: Clock = {
    now: () => now,
    monotonic: () => now,
    after: () => ({ [Symbol.dispose]() {} }),
    every: () => ({ [Symbol.dispose]() {} }),
  }
  /** As exported at the start, and never again but where a test says so. */
  const written = new Map<string, Told>()

  beforeAll(async () => {
    domain = await startDomain({ realm: 'random' })
    for (const tool of ['ldapsearch', 'ldbsearch', 'samba-tool'] as const) await exportRootKeys(tool)
    await standAt(Math.ceil(Date.now() / SECOND) * SECOND + 2 * SECOND)
    for (const account of ['web01', 'sql01']) written.set(account, await ask(account))
  }, 120_000)
  afterAll(() => domain?.[Symbol.asyncDispose]())

  const exportFile = (name: string) => join(domain.state, `root-keys.${name}`)
  async function exportRootKeys(tool: 'ldapsearch' | 'ldbsearch' | 'samba-tool', name: string = tool): Promise<void> {
    await writeFile(exportFile(name), await domain.rootKeys(tool), { mode: 0o600 })
  }

  /** Stops both clocks at a whole second. libfaketime takes local time. */
  async function standAt(time: number): Promise<void> {
    now = time
    const date = new Date(time)
    const two = (part: number) => `${part}`.padStart(2, '0')
    const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join('-')
    await domain.clock(`${day} ${[date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':')}`)
  }

  async function search(client: Client, account: string): Promise<Entry> {
    const attributes = [...BYTES, 'whenCreated', 'msDS-KeyVersionNumber', 'msDS-ManagedPasswordInterval']
    const filter = `(sAMAccountName=${account}$)`
    const asked = { scope: 'sub', filter, attributes, explicitBufferAttributes: BYTES } as const
    const { searchEntries } = await client.search(domain.base, asked)
    return searchEntries[0] ?? expect.unreachable('no such account')
  }

  /** The password first, for its read may change the account; then all else. */
  async function ask(account: string): Promise<Told> {
    const tlsOptions = { ca: readFileSync(domain.ca), servername: domain.serverName }
    const client = new Client({ url: domain.ldapsUrl, tlsOptions })
    try {
      await client.bind(`${domain.ccg.username}@${domain.dns}`, domain.ccg.password)
      const blob = bytesOf((await search(client, account))['msDS-ManagedPassword'])
      const entry = await search(client, account)
      return {
        blob,
        id: bytesOf(entry['msDS-ManagedPasswordId']),
        sid: formatSid(bytesOf(entry['objectSid'])),
        whenCreated: String(entry['whenCreated']),
        kvno: Number(entry['msDS-KeyVersionNumber']),
        days: Number(entry['msDS-ManagedPasswordInterval']),
      }
    } finally {
      await client.unbind()
    }
  }

  /** What an operator wrote down of the account, with one anchor or both. */
  function optionsOf(account: string, anchors: 'created' | 'both', told = written.get(account)) {
    if (!told) return expect.unreachable('nothing was written down')
    const { sid, whenCreated, days: managedPasswordInterval } = told
    const managedPasswordId = told.id.toString('base64')
    const samAccountName = `${account}$`
    const all = {
      samAccountName,
      domain: domain.dns,
      sid,
      managedPasswordInterval,
      whenCreated,
      enctypes: ['aes256', 'aes128'],
    }
    return { ...all, ...(anchors === 'both' && { managedPasswordId, kvno: told.kvno }) }
  }

  const provider = (file: string) => openKdsRootKey('offline', { rootKeys: { file } }, { log: silentLog, clock })
  async function derive(account: string, anchors: 'created' | 'both', file: string, told?: Told): Promise<Buffer> {
    const asked = { name: account, secret: account, options: optionsOf(account, anchors, told) }
    const read = provider(file).reads['managed-password']
    const got = await read?.(asked, AbortSignal.timeout(5_000))
    return Buffer.from(got?.blob.reveal() ?? [])
  }

  /** Accounts and anchors for which the derivation does not give the controller's very bytes. */
  async function differences(file = exportFile('ldapsearch')): Promise<string[]> {
    const found: string[] = []
    for (const account of written.keys()) {
      const { blob } = await ask(account)
      for (const anchors of ['created', 'both'] as const) {
        if (!blob.equals(await derive(account, anchors, file))) found.push(`${account} from ${anchors}`)
      }
    }
    return found
  }

  /** When the password that was in force at the start changes for the nth time. */
  function changeOf(account: string, nth: number): number {
    const told = written.get(account) ?? expect.unreachable('nothing was written down')
    return millisecondsOf(startOfGkid(parseKeyIdentifier(told.id).gkid)) + nth * rolloverOf(told.days)
  }

  /** Logs on with a keytab that the service makes of the derivation. */
  async function logOn(account: string, file = exportFile('ldapsearch')): Promise<string> {
    await using broker = openBroker({
      accounts: new Map([[account, { provider: 'offline', options: optionsOf(account, 'both') }]]),
      providers: new Map([['offline', provider(file)]]),
      cache: { maxAge: 0, serveStale: 0 },
      timeout: 5_000,
      clock,
      log: silentLog,
      events: brokerEvents(),
    })
    const { bytes } = await broker.keytab({ allows: () => true }, account, { use: 'initiator', principals: [] })
    const keytab = join(domain.state, `${account}.keytab`)
    await writeFile(keytab, bytes, { mode: 0o600 })
    const ccache = `FILE:${join(domain.state, 'offline-ccache')}`
    const { stderr } = await domain.run('kinit', ['-k', '-t', keytab, '-c', ccache, `${account}$@${domain.realm}`])
    return stderr
  }

  test('are the same now, from root keys as each of three tools prints them', async () => {
    expect(readFileSync(exportFile('ldapsearch'), 'utf8')).toMatch(/^msKds-RootKeyData::/m)
    for (const tool of ['ldapsearch', 'ldbsearch', 'samba-tool'])
      expect(await differences(exportFile(tool)), tool).toEqual([])
    expect(parseManagedPassword(await derive('web01', 'both', exportFile('ldbsearch'))).previous).toBeUndefined()
  })

  test('log on', async () => {
    expect([await logOn('web01'), await logOn('sql01')]).toEqual(['', ''])
  })

  test.each([
    ['the same password', {}, {}, 'ok', /the directory has the same password, kvno 1$/],
    ['another kvno', { kvno: 5 }, {}, 'failed', /under kvno 1; ours is 5$/],
    ['another SID', { sid: 'S-1-5-21-1-2-3-1105' }, {}, 'failed', /the directory's account has the SID S-1-5-21-/],
    ['another interval', { managedPasswordInterval: 30 }, {}, 'failed', /msDS-ManagedPasswordInterval is 1, and/],
    [
      'another calendar',
      { managedPasswordId: undefined },
      { cycleOff: true },
      'failed',
      /changes the password at .*Z, and we would at/,
    ],
    [
      'other root keys',
      { managedPasswordId: undefined },
      { without: true },
      'failed',
      /the directory took root key \S+ for this password, and we took/,
    ],
    ['a damaged root key', {}, { damaged: true }, 'failed', /root key \S+ gives another password/],
    ['no directory', {}, { port: 1 }, 'warning', /not compared with provider ad/],
  ] as const)(
    'are compared by doctor: %s',
    async (_, account, { without, damaged, port, cycleOff }: Change, state, detail) => {
      // In a folder of its own: the lab's CA has its file here, too.
      const folder = await mkdtemp(join(domain.state, 'doctor-'))
      const pki = await writePki(folder, await makePki())
      const { keys } = parseRootKeys(
        await domain.rootKeys('ldapsearch'),
        (problem) => new GmsaError('MATERIAL_MALFORMED', problem),
      )
      const named = parseKeyIdentifier(written.get('web01')?.id ?? Buffer.alloc(0)).rootKeyId
      const rootKeys = keys
        .filter(({ id }) => !without || id !== named)
        .map(({ id, data, createTime, useStartTime }) => ({
          id,
          version: 1,
          kdfAlgorithm: 'SP800_108_CTR_HMAC',
          kdfParam: formatKdfParam('sha512').toString('base64'),
          data: Buffer.from(damaged ? data.reveal().toReversed() : data.reveal()).toString('base64'),
          createTime: `${createTime}`,
          useStartTime: `${useStartTime}`,
        }))
      const file = join(folder, 'root-keys.json')
      await writeFile(file, JSON.stringify({ rootKeys }), { mode: 0o600 })
      const passwordFile = join(folder, 'bind-password')
      await writeFile(passwordFile, domain.ccg.password, { mode: 0o600 })
      const bind = { username: domain.ccg.username, domainName: domain.dns, passwordFile }
      const servers = { servers: [domain.ip], ca: domain.ca, timeout: '3s', ...(port !== undefined && { port }) }
      const config = {
        tls: { ...pki.server, clientCa: pki.ca },
        providers: {
          offline: { type: 'kds-root-key', rootKeys: { file } },
          ad: { type: 'active-directory', domain: domain.dns, bind, ...servers },
        },
        accounts: {
          web01: {
            provider: 'offline',
            ...optionsOf('web01', 'both'),
            ...account,
            ...(cycleOff && { whenCreated: new Date(changeOf('web01', 0) - 10 * HOUR).toISOString() }),
          },
        },
      }
      const path = join(folder, 'config.json')
      await writeFile(path, JSON.stringify(config))
      const { code, stdout } = await runCli(['doctor', 'web01', '--json', '--config', path])
      const { findings }: { findings: Finding[] } = JSON.parse(stdout)
      const compared = findings.find(({ subject }) => subject === 'offline derivation')
      expect(compared).toMatchObject({ state, detail: expect.stringMatching(detail) })
      expect(code).toBe(state === 'failed' ? 1 : 0)
      for (const { data } of rootKeys) expect(stdout).not.toContain(data.slice(0, 20))
    },
  )

  test.each([
    ['a second before the window', -301 * SECOND],
    ['as the window opens', -300 * SECOND],
    ['a minute before the change', -MINUTE],
    ['at the very tick of the change', 0],
    ['a minute after the change', MINUTE],
    ['before the account is older than an interval', MINUTE + SECOND],
  ])('are the same around the first change of web01$: %s', async (_, offset) => {
    await standAt(changeOf('web01', 1) + offset)
    expect(await differences()).toEqual([])
    expect(await logOn('web01')).toBe('')
  })

  test('are the same with a previous password from when the account is older than an interval', async () => {
    const [, year, month, day, hour, minute, second] =
      /^(....)(..)(..)(..)(..)(..)/.exec(written.get('web01')?.whenCreated ?? '') ?? []
    const created = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`)
    await standAt(created + rolloverOf(1) - SECOND)
    expect(await differences()).toEqual([])
    expect(parseManagedPassword(await derive('web01', 'created', exportFile('ldapsearch'))).previous).toBeUndefined()
    await standAt(created + rolloverOf(1))
    expect(await differences()).toEqual([])
    expect(parseManagedPassword(await derive('web01', 'created', exportFile('ldapsearch'))).previous).toBeDefined()
  })

  test('are the same after three intervals that nobody saw, and log on under a kvno that is not the directory’s', async () => {
    const before = await ask('web01')
    await standAt(changeOf('web01', 5) + HOUR)
    expect(await differences()).toEqual([])
    const after = await ask('web01')
    // Two more, not four: the directory skips what nobody saw. That can't be derived.
    expect(after.kvno).toBe(before.kvno + 2)
    expect(await logOn('web01')).toBe('')
    const asked = { name: 'web01', secret: 'web01', options: optionsOf('web01', 'both') }
    const read = (options: object) => {
      const { reads } = provider(exportFile('ldapsearch'))
      const got = reads['managed-password']?.(
        { ...asked, options: { ...asked.options, ...options } },
        AbortSignal.timeout(5_000),
      )
      return got?.then(({ kvno }) => kvno && [kvno.value, kvno.predicted])
    }
    expect(await read({})).toEqual([6, true])
    // The controller's own keytab tells.
    const kvnoKeytab = join(domain.state, 'exported.keytab')
    await domain.exportKeytab('web01$', kvnoKeytab)
    expect(await read({ kvnoKeytab })).toEqual([after.kvno, undefined])
    // What is written down anew is as good an anchor.
    const told = await ask('web01')
    expect((await derive('web01', 'both', exportFile('ldapsearch'), told)).equals(told.blob)).toBe(true)
  })

  test('are the same once a second root key is in use, as the directory takes it: from the next change on', async () => {
    const change = changeOf('web01', 6)
    await standAt(change - 3 * HOUR)
    expect(await differences()).toEqual([])
    // Usable from before the present password on, as its usual commands make one. It was not there for that password.
    await domain.addRootKey(now - 20 * HOUR)
    await exportRootKeys('ldapsearch', 'both')
    expect(await differences(exportFile('both'))).toEqual([])
    expect(await differences()).toEqual([])
    await standAt(change - MINUTE)
    expect(await differences(exportFile('both'))).toEqual([])
    // Who does not have the new root key is wrong from now on.
    expect(await differences()).toEqual(['web01 from created', 'web01 from both'])
    // The read that sets off the change shows as previous one made with the new root key, which never was; so would all
    // reads after one at the very tick.
    for (const offset of [SECOND, MINUTE, 3 * HOUR]) {
      await standAt(change + offset)
      await ask('web01')
      expect(await differences(exportFile('both')), `${offset}`).toEqual([])
    }
    expect(await logOn('web01', exportFile('both'))).toBe('')
    expect(await logOn('web01')).toMatch(/Preauthentication failed/)
  })

  test('are the same around the change of sql01$, after a month, and after a quarter', async () => {
    for (const offset of [-301 * SECOND, -300 * SECOND, -MINUTE, 0, MINUTE]) {
      await standAt(changeOf('sql01', 1) + offset)
      expect(await differences(exportFile('both')), `${offset}`).toEqual([])
    }
    expect(await logOn('sql01', exportFile('both'))).toBe('')
    await standAt(changeOf('sql01', 5) + HOUR)
    expect(await differences(exportFile('both'))).toEqual([])
    expect(await logOn('sql01', exportFile('both'))).toBe('')
  })
})

function bytesOf(value: unknown): Buffer {
  if (!Buffer.isBuffer(value)) throw new TypeError('no bytes')
  return value
}
