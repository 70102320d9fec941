import { execFileSync } from 'node:child_process'
import { mkdir, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { systemClock } from '../../../src/base/clock.ts'
import { silentLog } from '../../../src/base/log.ts'
import { Secret } from '../../../src/base/secret.ts'
import { encodeKeytab } from '../../../src/kerberos/keytab.ts'
import { parsePrincipal } from '../../../src/kerberos/principal.ts'
import { file } from '../../../src/providers/file/index.ts'
import type { Provider } from '../../../src/providers/provider.ts'
import { failure } from '../../contract/provider-contract.ts'
import { movableClock } from '../../fakes/clock.ts'
import { FORMS, type SecretsFolder, secretsFolder, swapVolume } from './forms.ts'

const MEMBERS = { username: 'svc', password: 'pa55', domainName: 'ad.test' }
const JSON_RECORD = JSON.stringify(MEMBERS)
const open = (directory: string, clock = systemClock) => file.open('local', { directory }, { log: silentLog, clock })

let folder: SecretsFolder
let directory: string
let provider: Provider

beforeEach(async () => {
  folder = await secretsFolder()
  directory = folder.directory
  provider = await open(directory)
})
afterEach(async () => {
  await provider[Symbol.asyncDispose]()
  await folder[Symbol.asyncDispose]()
})

const write = (name: string, content: string | Uint8Array) => writeFile(join(directory, name), content, { mode: 0o600 })

/** mkfifo(1) has no equal in Node. */
const makePipe = (name: string) => execFileSync('sh', ['-c', 'mkfifo -m 600 "$0"', join(directory, name)])

async function read(secret = 'svc', name = 'svc') {
  const credential = await provider.reads.credential?.({ name, secret, options: {} }, AbortSignal.timeout(5_000))
  if (!credential) throw new Error('offers no credential')
  const { username, password, domainName } = credential
  return { username, password: password.revealText(), domainName }
}

describe('opening', () => {
  test('refuses a folder whose path is not absolute', async () => {
    await failure(open('secrets'), 'CONFIG_INVALID')
  })

  test('takes a folder that is not there yet; the probe says so, and notices when it comes', async () => {
    await rm(directory, { recursive: true })
    await using late = await open(directory)
    await failure(late.probe(AbortSignal.timeout(1_000)), 'STORE_UNAVAILABLE')
    await mkdir(directory)
    await late.probe(AbortSignal.timeout(1_000))
  })

  test('takes a file for an unreachable store, not for an empty one', async () => {
    await rm(directory, { recursive: true })
    await writeFile(directory, '')
    await failure(provider.probe(AbortSignal.timeout(1_000)), 'STORE_UNAVAILABLE')
    await failure(read(), 'STORE_UNAVAILABLE')
  })
})

describe('names', () => {
  test('a record may lie under a name of its own', async () => {
    await write('ccg-eu_West.1.json', JSON_RECORD)
    expect(await read('ccg-eu_West.1')).toEqual(MEMBERS)
  })

  test.each([
    '../svc',
    '..',
    '.',
    '',
    '/etc/passwd',
    'a/b',
    'a\\b',
    '..data',
    '.hidden',
    'svc\0',
    'svc\n',
    'ä',
    'C:svc',
    'x'.repeat(254),
  ])('%j is no name of a file', async (secret) => {
    await write('svc.json', JSON_RECORD)
    await failure(read(secret), 'ACCOUNT_NOT_FOUND')
  })

  test('a name longer than any file is absent: the store still works', async () => {
    await failure(read('x'.repeat(253)), 'ACCOUNT_NOT_FOUND')
  })

  test('a name that looks like a file of another account is not that file', async () => {
    await write('svc.json', JSON_RECORD)
    await failure(read('svc.json'), 'ACCOUNT_NOT_FOUND')
    await write('svc.json.yaml', 'username: other\npassword: other\ndomainName: ad.test\n')
    expect(await read('svc.json')).toMatchObject({ username: 'other' })
    expect(await read('svc')).toMatchObject({ username: 'svc' })
  })

  test('two documents of one name are refused: which one holds can not be known', async () => {
    await write('svc.json', JSON_RECORD)
    await write('svc.yaml', JSON_RECORD)
    const error = await failure(read(), 'MATERIAL_MALFORMED')
    expect(error.hint).toBe('keep one of them')
  })

  test('a document beside a folder of one name is refused', async () => {
    await write('svc.yml', JSON_RECORD)
    await FORMS['folder of members'].put(directory, 'svc', MEMBERS)
    await failure(read(), 'MATERIAL_MALFORMED')
  })
})

describe('what lies in the place of a file', () => {
  test('a link is followed', async () => {
    await write('real', JSON_RECORD)
    await symlink('real', join(directory, 'svc.json'))
    expect(await read()).toEqual(MEMBERS)
  })

  test('a link to nothing and a link to itself are absent', async () => {
    await symlink('nothing', join(directory, 'svc.json'))
    await failure(read(), 'ACCOUNT_NOT_FOUND')
    await symlink('loop.json', join(directory, 'loop.json'))
    await symlink('loop', join(directory, 'loop'))
    await failure(read('loop'), 'ACCOUNT_NOT_FOUND')
  })

  test('a named pipe is refused and holds nobody up', async () => {
    makePipe('svc.yaml')
    const started = performance.now()
    await failure(read(), 'MATERIAL_MALFORMED')
    expect(performance.now() - started).toBeLessThan(2_000)
  })

  test('a named pipe among the members is refused and holds nobody up', async () => {
    await FORMS['folder of members'].put(directory, 'svc', { username: 'svc', domainName: 'ad.test' })
    makePipe('svc/password')
    const error = await failure(read(), 'MATERIAL_MALFORMED')
    expect(error.message).toContain('password')
  })

  test('a device is refused', async () => {
    await symlink('/dev/zero', join(directory, 'svc.json'))
    await failure(read(), 'MATERIAL_MALFORMED')
  })

  test('a folder in place of a document is refused', async () => {
    await mkdir(join(directory, 'svc.json'))
    await failure(read(), 'MATERIAL_MALFORMED')
  })

  test('a folder without members is a broken record, not an absent one', async () => {
    await mkdir(join(directory, 'svc'))
    const error = await failure(read(), 'MATERIAL_MALFORMED')
    expect(error.message).toContain('username is missing')
  })

  test('a file without end is refused after its first 64 KiB', async () => {
    await write('svc.json', JSON_RECORD)
    await truncate(join(directory, 'svc.json'), 2 ** 40)
    const error = await failure(read(), 'MATERIAL_MALFORMED')
    expect(error.message).toContain('larger than')
  })

  test('64 KiB are read, a byte more is not', async () => {
    await write('svc.json', JSON_RECORD.padEnd(65_536))
    expect(await read()).toEqual(MEMBERS)
    await write('svc.json', JSON_RECORD.padEnd(65_537))
    await failure(read(), 'MATERIAL_MALFORMED')
  })
})

describe('documents', () => {
  test('a byte order mark is dropped', async () => {
    for (const name of ['a.json', 'b.yaml']) await write(name, `\ufeff${JSON_RECORD}`)
    expect(await read('a')).toEqual(MEMBERS)
    expect(await read('b')).toEqual(MEMBERS)
  })

  test('UTF-16, as some editors and shells write it, is refused', async () => {
    await write('svc.json', Buffer.from(`\ufeff${JSON_RECORD}`, 'utf16le'))
    await failure(read(), 'MATERIAL_MALFORMED')
  })

  test.each([
    ['an open quote', 'username: svc\ndomainName: ad.test\npassword: "pa55'],
    ['a key twice', 'username: svc\ndomainName: ad.test\npassword: pa55\npassword: word'],
    ['a second document', 'username: svc\ndomainName: ad.test\npassword: pa55\n---\npassword: word'],
    ['a mapping where none can be', 'username: svc\ndomainName: ad.test\npassword: pa55: word'],
    ['a tag that nobody here knows', 'username: svc\ndomainName: ad.test\npassword: !vault |\n  pa55'],
    ['an alias', 'username: &name svc\ndomainName: ad.test\npassword: *name'],
    ['a tab for indentation', 'username: svc\ndomainName: ad.test\npassword:\n\tpa55'],
    ['nothing', ''],
    ['a list', '- username: svc'],
    ['a word', 'pa55'],
  ])('YAML with %s is refused, and not quoted', async (_what, text) => {
    await write('svc.yaml', text)
    const error = await failure(read(), 'MATERIAL_MALFORMED')
    expect(`${error.stack} ${error.cause} ${error.hint}`).not.toMatch(/pa55|word/)
  })

  test.each([
    ['a comma too many', '{"username":"svc","password":"pa55",}'],
    ['an end too early', '{"username":"svc","password":"pa55'],
    ['a list', '["pa55"]'],
    ['null', 'null'],
    ['nothing', ''],
    ['members of its prototype alone', '{"__proto__":{"username":"svc","password":"pa55","domainName":"ad.test"}}'],
    ['half a surrogate pair', '{"username":"svc","password":"pa55\\ud800","domainName":"ad.test"}'],
  ])('JSON with %s is refused, and not quoted', async (_what, text) => {
    await write('svc.json', text)
    const error = await failure(read(), 'MATERIAL_MALFORMED')
    expect(`${error.stack} ${error.cause} ${error.hint}`).not.toMatch(/pa55/)
  })

  test('the largest document of many keys or brackets takes a bounded time', async () => {
    await write(
      'keys.yaml',
      Array.from({ length: 8_000 }, (_, index) => `k${index}: 1`)
        .join('\n')
        .slice(0, 65_000),
    )
    await write('brackets.yaml', '['.repeat(65_000))
    const started = performance.now()
    for (const name of ['keys', 'brackets']) await failure(read(name), 'MATERIAL_MALFORMED')
    expect(performance.now() - started).toBeLessThan(8_000)
  })
})

describe('members in files', () => {
  test.each(['\n', '\r\n', ''])('one line break at the end (%j) is dropped', async (end) => {
    const members = Object.fromEntries(Object.entries(MEMBERS).map(([name, value]) => [name, value + end]))
    await FORMS['folder of members'].put(directory, 'svc', members)
    expect(await read()).toEqual(MEMBERS)
  })

  test('blanks belong to the password', async () => {
    await FORMS['folder of members'].put(directory, 'svc', { ...MEMBERS, password: ' pa55 \t' })
    expect(await read()).toMatchObject({ password: ' pa55 \t' })
  })

  test('a password that is not UTF-8 is named', async () => {
    const password = Buffer.from('pa55\xff', 'latin1')
    await FORMS['folder of members'].put(directory, 'svc', { ...MEMBERS, password })
    const error = await failure(read(), 'MATERIAL_MALFORMED')
    expect(error.message).toContain('password is not UTF-8')
  })
})

describe('a volume that is swapped all the time', () => {
  const update = (volume: string, layout: 'own' | 'projected', version: number) => {
    const members = { username: `user-${version}`, password: `word-${version}`, domainName: 'ad.test' }
    return swapVolume(volume, layout === 'own' ? members : { svc: members })
  }

  test.each(['own', 'projected'] as const)('(%s folder) never gives members of two versions', async (layout) => {
    const volume = layout === 'own' ? join(directory, 'svc') : directory
    await update(volume, layout, 0)
    let stop = false
    let reads = 0
    const readers = Array.from({ length: 4 }, async () => {
      while (!stop) {
        const { username, password } = await read().catch((error) => {
          // The one thing to say when every try met a swap.
          expect(error.code).toBe('STORE_UNAVAILABLE')
          return { username: 'user-x', password: 'word-x' }
        })
        expect(password.replace('word', 'user')).toBe(username)
        if (username !== 'user-x') reads += 1
      }
    })
    // On a busy machine a swap can meet every read: then it goes on, with a breath in between.
    for (let version = 1; version <= 200 || (reads <= 50 && version <= 2_000); version += 1) {
      await update(volume, layout, version)
      if (version > 200) await setTimeout(5)
    }
    stop = true
    await Promise.all(readers)
    expect(reads).toBeGreaterThan(50)
  })

  test('that renames the document finds it once, whatever moment the read falls into', async () => {
    const names = ['svc.yaml', 'svc.json']
    await swapVolume(directory, { 'svc.yaml': JSON_RECORD })
    let stop = false
    const reader = (async () => {
      while (!stop) {
        const outcome = await read().catch((error) => error.code)
        expect([MEMBERS, 'STORE_UNAVAILABLE', 'ACCOUNT_NOT_FOUND']).toContainEqual(outcome)
      }
    })()
    for (let turn = 1; turn <= 100; turn += 1) await swapVolume(directory, { [names[turn % 2] ?? '']: JSON_RECORD })
    stop = true
    await reader
  })
})

describe('P2: a keytab in a folder of members', () => {
  const principal = parsePrincipal('web01$@AD.TEST')
  const key = new Secret(new Uint8Array(32).fill(7))
  const keytab = encodeKeytab([{ principal, timestamp: 0, kvno: 3, enctype: 18, key }])

  test.each<[string, string, string | Uint8Array]>([
    ['its bytes, as Kubernetes mounts a Secret', 'keytab', keytab],
    ['base64, with the line break of an editor', 'keytab', `${keytab.toString('base64')}\n`],
    ['base64 by its other name', 'keytab.b64', keytab.toString('base64')],
  ])('P2: as %s', async (_what, member, content) => {
    await swapVolume(join(directory, 'svc'), { [member]: content })
    const keys = await provider.reads['kerberos-keys']?.(
      { name: 'svc', secret: 'svc', options: {} },
      AbortSignal.timeout(5_000),
    )
    expect(keys?.keys.map(({ kvno }) => kvno)).toEqual([3])
  })
})

describe('watching', () => {
  const listen = () => {
    const heard = vi.fn()
    provider.watch?.(heard)
    return heard
  }

  test('hears of a volume below the folder being swapped', async () => {
    await swapVolume(join(directory, 'svc'), MEMBERS)
    const heard = listen()
    await swapVolume(join(directory, 'svc'), { ...MEMBERS, password: 'next' })
    await vi.waitFor(() => expect(heard).toHaveBeenCalled(), 2_000)
  })

  test('hears of changes in a folder that came later', async () => {
    const heard = listen()
    await mkdir(join(directory, 'svc'), { mode: 0o700 })
    await vi.waitFor(() => expect(heard).toHaveBeenCalled(), 2_000)
    heard.mockClear()
    await write('svc/password', 'pa55')
    await vi.waitFor(() => expect(heard).toHaveBeenCalled(), 2_000)
  })

  test('hears of the folder of secrets vanishing and returning', async () => {
    const heard = listen()
    await rename(directory, `${directory}-gone`)
    await vi.waitFor(() => expect(heard).toHaveBeenCalled(), 2_000)
    await failure(read(), 'STORE_UNAVAILABLE')
    await mkdir(directory, { mode: 0o700 })
    await failure(read(), 'ACCOUNT_NOT_FOUND')
  })

  test('takes up a folder that returned, without reading all of it again each time', async () => {
    const clock = movableClock()
    await using patient = await open(directory, clock)
    const heard = vi.fn()
    patient.watch?.(heard)
    await clock.advance(60_000)
    expect(heard).not.toHaveBeenCalled()
    await rm(directory, { recursive: true })
    await clock.advance(11_000)
    await mkdir(directory, { mode: 0o700 })
    await clock.advance(11_000)
    heard.mockClear()
    await write('svc.json', JSON_RECORD)
    await vi.waitFor(async () => {
      await clock.advance(100)
      expect(heard).toHaveBeenCalled()
    }, 2_000)
  })
})
