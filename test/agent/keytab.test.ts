import { execFileSync } from 'node:child_process'
import { chmod, mkdir, readFile, readlink, rename, stat, symlink, unlink, utimes, writeFile } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { OutputConfig } from '../../src/agent/config.ts'
import { Secret } from '../../src/base/secret.ts'
import { formatManagedPassword } from '../../src/gmsa/managed-password.ts'
import type { ManagedPassword } from '../../src/gmsa/material.ts'
import { encodeKeytab, type KeytabEntry } from '../../src/kerberos/keytab.ts'
import { parsePrincipal } from '../../src/kerberos/principal.ts'
import type { Provider } from '../../src/providers/provider.ts'
import {
  type AgentRig,
  type AgentRigOptions,
  CHANGE,
  HOUR,
  identityOf,
  keysOf,
  kvnosOf,
  MINUTE,
  makeAgentRig,
  namesIn,
  ROLLOVER,
} from '../fakes/agent-rig.ts'
import { eventually } from '../server/wire.ts'
import vectors from '../vectors/gmsad-keytab.json' with { type: 'json' }
import blobs from '../vectors/gmsad-managed-password-blobs.json' with { type: 'json' }
import rotation from '../vectors/gmsad-rotation-kvno.json' with { type: 'json' }

let at: AgentRig
const setUp = async (options: AgentRigOptions = {}) => {
  at = await makeAgentRig(options)
  return at
}
afterEach(async () => await at[Symbol.asyncDispose]())

/** Brings the outputs up to date once; gives what went wrong with each. */
async function once(...outputs: readonly Partial<OutputConfig>[]): Promise<(string | undefined)[]> {
  return (await at.once(outputs)).map(({ error }) => error && `${error.code} ${error.message}`)
}

const foreign = (name: string, kvno = 3): KeytabEntry => ({
  principal: parsePrincipal(name),
  timestamp: 1_700_000_000,
  kvno,
  enctype: 18,
  key: new Secret(new Uint8Array(32).fill(kvno)),
})
const modeOf = async (name: string) => ((await stat(at.path(name))).mode & 0o7777).toString(8)

describe('what a keytab holds', () => {
  beforeEach(async () => void (await setUp()))

  test('K1: the account itself where no SPN is set', async () => {
    at.directory.says({ servicePrincipalNames: [] })
    expect(await once({ kind: 'acceptor' })).toEqual([undefined])
    expect(keysOf(await at.keytab('web01-acceptor')).map((key) => key.split(' ')[0])).toEqual(
      Array(4).fill('web01$@AD.TEST'),
    )
  })

  test('K2: the SPNs and nothing else; on request exactly what is asked for', async () => {
    at.directory.says({ servicePrincipalNames: ['HTTP/web01.ad.test', 'HTTP/web01'] })
    const principals = async (output: Partial<OutputConfig>) => {
      expect(await once({ ...output, file: at.path('some') })).toEqual([undefined])
      return [...new Set(keysOf(await at.keytab('some')).map((key) => key.split(' ')[0]))]
    }
    expect(await principals({})).toEqual(['HTTP/web01.ad.test@AD.TEST', 'HTTP/web01@AD.TEST'])
    await rename(at.path('some'), at.path('other'))
    expect(await principals({ principals: ['HTTP/web01', 'web01$@AD.TEST'] })).toEqual([
      'HTTP/web01@AD.TEST',
      'web01$@AD.TEST',
    ])
    expect(await once({ principals: ['nfs/web01'] })).toEqual([
      expect.stringMatching(/^REQUEST_INVALID web01: the service answers 400/),
    ])
  })

  test('K3: the key in force and the one before, for each enctype, under their own numbers', async () => {
    await once({})
    expect(keysOf(await at.keytab('web01-acceptor'))).toEqual([
      'HTTP/web01.ad.test@AD.TEST 9 18',
      'HTTP/web01.ad.test@AD.TEST 9 17',
      'HTTP/web01.ad.test@AD.TEST 8 18',
      'HTTP/web01.ad.test@AD.TEST 8 17',
    ])
  })

  test('K8: the very bytes that the service sends, in the layout of MIT', async () => {
    await once({})
    const { bytes } = await at.rig.get('/v1/accounts/web01/keytab')
    expect((await readFile(at.path('web01-acceptor'))).equals(bytes)).toBe(true)
  })
})

test('K3: through the first change, of which a restarted service knows the new key only, the file keeps the old one', async () => {
  // The account's first change: the directory withholds the password before it, and the other service never saw it.
  const directory = { created: CHANGE - ROLLOVER + 5 * HOUR }
  await setUp({ directory })
  await once({})
  const before = await at.keytab('web01-acceptor')
  await using other = await makeAgentRig({ directory, before: -MINUTE })
  const results = await other.once([{ file: at.path('web01-acceptor') }])
  expect(results[0]?.error).toBeUndefined()
  const after = await at.keytab('web01-acceptor')
  expect([kvnosOf(before), kvnosOf(after)]).toEqual([[7], [8, 7]])
  expect(keysOf(after)).toEqual(expect.arrayContaining(keysOf(before)))
})

describe('through a change of the password', () => {
  test('K4, K5: the acceptor has the next key within a minute of the window, the initiator never before its time', async () => {
    await setUp({ before: 30 * MINUTE })
    const agent = await at.start([{ kind: 'acceptor' }, { kind: 'initiator' }])
    await agent.ready
    const seen: string[] = []
    for (let minute = -30; minute <= 10; minute++) {
      const [acceptor, initiator] = await Promise.all(
        ['web01-acceptor', 'web01-initiator'].map((name) => at.keytab(name)),
      )
      seen.push(`${minute}: ${kvnosOf(acceptor ?? [])} and ${kvnosOf(initiator ?? [])}`)
      await at.advance(MINUTE)
    }
    const phases = seen.map((each) => each.split(': ')[1])
    expect(phases.slice(0, 25)).toEqual(Array(25).fill('9,8 and 9'))
    expect(phases.slice(26, 30)).toEqual(Array(4).fill('10,9 and 9'))
    expect(phases.slice(31)).toEqual(Array(10).fill('10,9 and 10'))
  })
})

/** A provider that answers with this password, whatever the account and the time. */
function answering(material: () => Omit<ManagedPassword, 'kind'>): Provider {
  return {
    name: 'ad',
    reads: { 'managed-password': async () => ({ kind: 'managed-password', ...material() }) },
    async probe() {},
    async [Symbol.asyncDispose]() {},
  }
}

const secret = (hex: string) => new Secret(Uint8Array.from(Buffer.from(hex, 'hex')))
const account = { samAccountName: 'web01$', domain: 'ad.test', servicePrincipalNames: [], supportedEnctypes: 24 }
const hexOf = ({ key }: KeytabEntry) => Buffer.from(key.reveal()).toString('hex')

describe('published cases, from the blob to the file', () => {
  test.each(rotation.cases)('K6: $case', async (vector) => {
    const named = (name: string) =>
      secret(Object.entries(rotation.passwordsUtf16Hex).find(([each]) => each === name)?.[1] ?? '')
    const { blobCurrentIs, blobPreviousIs, msDSKeyVersionNumber: value } = vector
    const blob = formatManagedPassword({
      current: named(blobCurrentIs),
      ...(blobPreviousIs && { previous: named(blobPreviousIs) }),
      queryInterval: BigInt(vector.queryPasswordInterval100ns),
      unchangedInterval: BigInt(vector.unchangedPasswordInterval100ns),
    })
    const provider = answering(() => {
      const now = at.clock.now()
      return { blob: new Secret(blob), receivedAt: now, kvno: { value, readAt: now }, account, server: 'dc1' }
    })
    const options = { salt: rotation.salt, enctypes: ['aes256'] }
    await setUp({
      providers: new Map([['ad', provider]]),
      config: { accounts: new Map([['web01', { provider: 'ad', options }]]) },
    })
    expect(await once({})).toEqual([undefined])
    const keys: Readonly<Record<string, string>> = rotation.keys
    const found = (await at.keytab('web01-acceptor')).map((each) => [each.kvno, hexOf(each)])
    expect(Object.fromEntries(found)).toEqual(
      Object.fromEntries(Object.entries(vector.expectedKeysByKvno).map(([kvno, name]) => [kvno, keys[name]])),
    )
  })

  test.each([...blobs.blobs.map((each) => ({ ...each, ...each.current })), ...blobs.embeddedCases])(
    'K7: the keys of a published password under its salt: $salt',
    async ({ blobHex, salt, keysByEnctype }) => {
      const provider = answering(() => {
        const now = at.clock.now()
        return { blob: secret(blobHex), receivedAt: now, kvno: { value: 5, readAt: now }, account, server: 'dc1' }
      })
      const options = { salt, enctypes: ['aes256', 'aes128'] }
      await setUp({
        providers: new Map([['ad', provider]]),
        config: { accounts: new Map([['web01', { provider: 'ad', options }]]) },
      })
      expect(await once({})).toEqual([undefined])
      const current = (await at.keytab('web01-acceptor')).filter(({ kvno }) => kvno === 5)
      const expected: Readonly<Record<string, string>> = keysByEnctype
      expect(current.map(hexOf)).toEqual([expected['18'], expected['17'] ?? expect.any(String)])
    },
  )
})

describe('a file that is there already', () => {
  beforeEach(async () => void (await setUp()))

  test('K9: two accounts share one, and a foreign principal in it survives a change of both', async () => {
    const file = at.path('shared')
    await writeFile(file, encodeKeytab([foreign('nfs/other@AD.TEST')]), { mode: 0o600 })
    const agent = await at.start([
      { name: 'web01', file },
      { name: 'sql01', file },
      { name: 'sql01', kind: 'initiator', file },
    ])
    await agent.ready
    const principals = async () =>
      [...new Set(keysOf(await at.keytab('shared')).map((key) => key.split(' ')[0] ?? ''))].toSorted()
    const all = ['HTTP/sql01.ad.test@AD.TEST', 'HTTP/web01.ad.test@AD.TEST', 'nfs/other@AD.TEST', 'sql01$@AD.TEST']
    expect(await principals()).toEqual(all)
    await at.advance(40 * MINUTE)
    expect(await principals()).toEqual(all)
    const keys = keysOf(await at.keytab('shared'))
    expect(keys).toEqual(expect.arrayContaining(['nfs/other@AD.TEST 3 18', 'HTTP/sql01.ad.test@AD.TEST 10 18']))
    expect(keys.filter((key) => key.startsWith('sql01$'))).toEqual(['sql01$@AD.TEST 10 18', 'sql01$@AD.TEST 10 17'])
  })

  test('K9: two outputs that would keep the same principal in one file: the second is refused', async () => {
    const file = at.path('shared')
    const problems = await once(
      { file },
      { file, kind: 'acceptor', principals: ['HTTP/web01.ad.test'], name: 'again', account: 'web01' },
    )
    expect(problems.filter((each) => each === undefined)).toHaveLength(1)
    expect(problems.join('')).toMatch(/^CONFIG_INVALID .*HTTP\/web01\.ad\.test@AD\.TEST is kept there for \w+ acceptor/)
  })

  test.each(vectors.readerCases)('K10: $case', async ({ hex, expected }) => {
    const bytes = Buffer.from(hex, 'hex')
    await writeFile(at.path('web01-acceptor'), bytes)
    const [problem] = await once({})
    if (expected === null && bytes.length > 0) {
      expect(problem).toMatch(/^MATERIAL_MALFORMED .*what stands there can't be kept/)
      expect((await readFile(at.path('web01-acceptor'))).equals(bytes)).toBe(true)
    } else {
      expect(problem).toBeUndefined()
      const keys = keysOf(await at.keytab('web01-acceptor'))
      expect(keys.slice(0, expected?.length ?? 0)).toEqual(expected ?? [])
      expect(keys).toHaveLength((expected?.length ?? 0) + 4)
    }
  })

  test('K14: what the service refuses, or sends empty, changes nothing', async () => {
    await once({})
    const before = await identityOf(at.path('web01-acceptor'))
    // No AES at all, then no attribute: both AES types are assumed then.
    at.directory.says({ supportedEnctypes: 4 })
    at.directory.announce()
    expect(await once({})).toEqual([expect.stringMatching(/^MATERIAL_MALFORMED web01: the service answers 502/)])
    expect(await identityOf(at.path('web01-acceptor'))).toBe(before)
    at.directory.says({ supportedEnctypes: 0 })
    at.directory.announce()
    await at.clock.advance(HOUR / 60)
    expect(await once({})).toEqual([undefined])
    expect(await identityOf(at.path('web01-acceptor'))).toBe(before)
  })

  test('K15: without the network the file stays, and the agent is not ready', async () => {
    await once({})
    const before = await identityOf(at.path('web01-acceptor'))
    await at.rig.service.stop()
    expect(await once({})).toEqual([expect.stringMatching(/^STORE_UNAVAILABLE localhost:\d+: ECONNREFUSED/)])
    const agent = await at.start([{}])
    await eventually(() => agent.status().outputs[0]?.problem !== undefined, 'a failure')
    expect(agent.status()).toMatchObject({ ready: false, outputs: [{ problem: { code: 'STORE_UNAVAILABLE' } }] })
    expect(await identityOf(at.path('web01-acceptor'))).toBe(before)
  })

  test('H3: equal bytes are not written again', async () => {
    await once({})
    const before = await identityOf(at.path('web01-acceptor'))
    await once({})
    expect(await identityOf(at.path('web01-acceptor'))).toBe(before)
  })

  test('somebody removed or damaged it: it is made again at the next look, with nothing new from the service', async () => {
    const agent = await at.start([{}], { wait: 0 })
    await agent.ready
    const bytes = await readFile(at.path('web01-acceptor'))
    await unlink(at.path('web01-acceptor'))
    agent.refresh()
    await eventually(async () => (await namesIn(at.folder)).includes('web01-acceptor'), 'the file')
    expect((await readFile(at.path('web01-acceptor'))).equals(bytes)).toBe(true)
    expect(at.rig.lines.filter(({ route }) => String(route).endsWith('keytab')).at(-1)).toMatchObject({ status: 304 })
  })
})

describe('mode and owner', () => {
  beforeEach(async () => void (await setUp()))
  const isRoot = process.getuid?.() === 0

  test('K12: 0600 unless told, whatever the umask and the mode before', async () => {
    await writeFile(at.path('web01-acceptor'), '', { mode: 0o644 })
    await once({}, { kind: 'initiator', mode: 0o640 })
    expect([await modeOf('web01-acceptor'), await modeOf('web01-initiator')]).toEqual(['600', '640'])
  })

  test('K12: a mode that somebody changed is set right, without another change', async () => {
    await once({})
    await chmod(at.path('web01-acceptor'), 0o644)
    const bytes = await readFile(at.path('web01-acceptor'))
    await once({})
    expect(await modeOf('web01-acceptor')).toBe('600')
    expect((await readFile(at.path('web01-acceptor'))).equals(bytes)).toBe(true)
  })

  test('K12: owner and group by number and by name', async () => {
    const [uid, gid] = isRoot ? [1654, 1655] : [process.getuid?.() ?? 0, process.getgid?.() ?? 0]
    await once({ owner: String(uid), group: String(gid) })
    expect(await stat(at.path('web01-acceptor'))).toMatchObject({ uid, gid })
    const own = await stat(at.folder)
    const nameOf = (kind: string, id: number) =>
      execFileSync('getent', [kind, String(id)])
        .toString()
        .split(':')[0] ?? ''
    await once({ owner: nameOf('passwd', own.uid), group: nameOf('group', own.gid) })
    expect(await stat(at.path('web01-acceptor'))).toMatchObject({ uid: own.uid, gid: own.gid })
  })

  test('K12: a name that this system does not know is an error that says so', async () => {
    expect(await once({ owner: 'nobody-of-this-name' })).toEqual([
      'CONFIG_INVALID nobody-of-this-name: not in /etc/passwd',
    ])
    expect(await namesIn(at.folder)).toEqual([])
  })
})

describe('where the file stands', () => {
  beforeEach(async () => void (await setUp()))

  test('K13: a link stays a link, and what it leads to is replaced', async () => {
    await mkdir(at.path('real'))
    await symlink('real/keytab', at.path('link'))
    for (const _ of [1, 2]) {
      expect(await once({ file: at.path('link') })).toEqual([undefined])
      expect(await readlink(at.path('link'))).toBe('real/keytab')
      expect(kvnosOf(await at.keytab('real/keytab'))).toEqual([9, 8])
      await unlink(at.path('real/keytab'))
    }
  })

  test('K13: a folder as Kubernetes lays it out goes on working through its links', async () => {
    await mkdir(at.path('..2026_01'))
    await symlink('..2026_01', at.path('..data'))
    await symlink('..data/keytab', at.path('keytab'))
    expect(await once({ file: at.path('keytab') })).toEqual([undefined])
    expect(kvnosOf(await at.keytab('keytab'))).toEqual([9, 8])
    expect(await readlink(at.path('keytab'))).toBe('..data/keytab')
    await mkdir(at.path('..2026_02'))
    await symlink('..2026_02', at.path('..new'))
    await rename(at.path('..new'), at.path('..data'))
    expect(await once({ file: at.path('keytab') })).toEqual([undefined])
    expect(await namesIn(at.path('..2026_02'))).toEqual(['keytab'])
  })

  test.each([
    ['no folder', 'none/keytab', /its folder can't be found \(ENOENT\)/],
    ['a folder in its place', 'folder', /something else than a file stands there/],
    ['links in a circle', 'circle', /too many links/],
  ])('K13: %s is an error that says so, and leaves nothing behind', async (_what, name, said) => {
    await mkdir(at.path('folder'))
    await symlink('circle', at.path('circle'))
    const before = await namesIn(at.folder)
    const [problem] = await once({ file: at.path(name) })
    expect(problem).toMatch(/^CONFIG_INVALID /)
    expect(problem).toMatch(said)
    expect(await namesIn(at.folder)).toEqual(before)
  })

  test('K11: what a killed process left is removed once it is old, and nothing else', async () => {
    const names = [
      '.web01-acceptor.0123456789ab.tmp',
      '.web01-acceptor.ba9876543210.tmp',
      '.other.0123456789ab.tmp',
      '.web01-acceptor.tmp',
    ]
    for (const name of names) await writeFile(at.path(name), 'left')
    const [old, young, ...others] = names
    // By the file system's clock, not by ours.
    for (const name of [old, ...others]) await utimes(at.path(name ?? ''), 0, (Date.now() - 2 * MINUTE) / 1000)
    await utimes(at.path(young ?? ''), 0, Date.now() / 1000)
    await once({})
    expect(await namesIn(at.folder)).toEqual([young ?? '', ...others, 'web01-acceptor'].toSorted())
  })
})
