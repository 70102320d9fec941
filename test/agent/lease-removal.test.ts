import { chmod, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { isLeaseId } from '../../src/agent/lease-names.ts'
import { listLeases, removeLease } from '../../src/agent/lease-removal.ts'
import { failure } from '../contract/provider-contract.ts'

const ID = '73099acdb5807b4bbf91'
let folder: string
let leases: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gmsa-lease-'))
  leases = join(folder, 'krbdir')
  await mkdir(leases, { mode: 0o755 })
})
afterEach(() => rm(folder, { recursive: true, force: true }))

/** Makes files below the folder of all leases, with the folders above them; a name that ends in a slash is a folder. */
async function make(...paths: string[]): Promise<void> {
  for (const path of paths) {
    const [file = '', ...above] = path.split('/').toReversed()
    await mkdir(join(leases, ...above.toReversed()), { recursive: true, mode: 0o755 })
    if (file !== '') await writeFile(join(leases, path), path)
  }
}

/** All that stands below a folder, links by what they lead to. */
async function tree(root: string): Promise<Record<string, string>> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  const each = entries.map(async (entry) => {
    const path = join(entry.parentPath, entry.name)
    if (entry.isSymbolicLink()) return [path, `-> ${await readlink(path)}`]
    return [path, entry.isDirectory() ? '/' : await readFile(path, 'utf8')]
  })
  return Object.fromEntries(await Promise.all(each))
}

const LEASE = [`${ID}/${ID}_metadata.json`, `${ID}/web01/krb5cc`, `${ID}/sql01/krb5cc`]

describe('T5: a lease that is removed', () => {
  test('T5: is gone with its files and folders, and another one stays; a second time nothing happens', async () => {
    const leftovers = ['.krb5cc.0123456789ab.tmp', '.krb5cc.web01-ccache.pending'].map((name) => `${ID}/web01/${name}`)
    await make('other/web01/krb5cc', 'other/other_metadata.json')
    const before = await tree(leases)
    await make(...LEASE, ...leftovers, `${ID}/.${ID}_metadata.json.0123456789ab.tmp`)
    expect(await listLeases(leases)).toEqual([
      { lease: ID, gmsas: ['sql01', 'web01'] },
      { lease: 'other', gmsas: ['web01'] },
    ])
    const { removed, kept } = await removeLease(leases, ID)
    expect(removed).toHaveLength(9)
    expect(kept).toEqual([])
    expect(await tree(leases)).toEqual(before)
    expect(await removeLease(leases, ID)).toEqual({ removed: [], kept: [] })
    expect(await tree(leases)).toEqual(before)
    expect(await listLeases(leases)).toEqual([{ lease: 'other', gmsas: ['web01'] }])
  })

  test('T5: what is none of its files stays and is named; that is no failure', async () => {
    await make(...LEASE, `${ID}/web01/notes.txt`, `${ID}/backup.json`, `${ID}/sql01/krb5cc.old`)
    await symlink(join(folder, 'precious'), join(leases, ID, 'web01', 'link'))
    const { removed, kept } = await removeLease(leases, ID)
    expect(removed).toHaveLength(3)
    const strangers = ['backup.json', 'sql01/krb5cc.old', 'web01/link', 'web01/notes.txt']
    expect(kept).toEqual(strangers.map((name) => join(leases, ID, name)))
    expect(await removeLease(leases, ID)).toEqual({ removed: [], kept })
  })

  test('T5: with no folder of leases at all there is nothing to remove', async () => {
    expect(await removeLease(join(folder, 'none'), ID)).toEqual({ removed: [], kept: [] })
    expect(await listLeases(join(folder, 'none'))).toEqual([])
  })
})

describe('T5: what is no ID is refused, and nothing is touched', () => {
  test.each([
    '',
    '.',
    '..',
    '../x',
    'x/..',
    '/',
    '/etc',
    'a/b',
    'a\\b',
    `${ID}\0`,
    `${ID}\n`,
    `\u2025`,
    '-rf',
    '_x',
    '%2e%2e',
    'é',
    'x'.repeat(65),
  ])('T5: %j', async (id) => {
    await make(...LEASE)
    await writeFile(join(folder, 'x'), 'precious')
    const before = await tree(folder)
    const error = await failure(removeLease(leases, id), 'REQUEST_INVALID')
    expect(error.message).toBe('lease ID: expected letters, digits, dashes and underscores, 64 at most')
    expect(await tree(folder)).toEqual(before)
  })

  test('T5: of all texts only names of one step in one folder are taken', () => {
    const odd = fc.stringMatching(/^[./\\a-f0-9_%\0\n -]{0,24}$/)
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), odd, fc.constantFrom('credspec', ID)), (text) => {
        if (!isLeaseId(text)) return
        expect(text).toMatch(/^[\w-]{1,64}$/)
        expect(join('/a/b', text)).toBe(`/a/b/${text}`)
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('T5: in the folder of a hostile neighbour', () => {
  test.each([
    ['the lease', ID],
    ["the gMSA's folder", `${ID}/web01`],
  ])('T5: a place where others may write is refused before anything is removed: %s', async (_what, path) => {
    await make(...LEASE)
    await chmod(join(leases, path), 0o777)
    const before = await tree(folder)
    const { message } = await failure(removeLease(leases, ID), 'CONFIG_INVALID')
    expect(message).toBe(`${join(leases, path)}: somebody else may write there`)
    expect(await tree(folder)).toEqual(before)
  })

  /** Anything that may stand in a lease: names that are known, odd or a stranger's; files, folders and links. */
  const name = fc.constantFrom(
    'krb5cc',
    `${ID}_metadata.json`,
    'web01',
    'sql01',
    '.krb5cc.0123456789ab.tmp',
    'x',
    '.x',
    'a b',
  )
  const thing = fc.record({
    path: fc.array(name, { minLength: 1, maxLength: 3 }),
    what: fc.constantFrom('file', 'folder', 'link to a file', 'link to a folder', 'link to a lease'),
  })

  test('T5: whatever stands in the lease, all that is outside of it stays, and in it all but its own files', async () => {
    const own = RegExp(
      `^${RegExp.escape(join(leases, ID))}/(?:${ID}_metadata\\.json|(?:web01|sql01|x|krb5cc)/(?:krb5cc|\\.krb5cc\\.0123456789ab\\.tmp))$`,
    )
    await fc.assert(
      fc.asyncProperty(fc.array(thing, { maxLength: 12 }), async (things) => {
        await rm(folder, { recursive: true, force: true })
        await mkdir(leases, { recursive: true, mode: 0o755 })
        await mkdir(join(folder, 'outside', 'web01'), { recursive: true })
        await writeFile(join(folder, 'outside', 'krb5cc'), 'precious')
        await writeFile(join(folder, 'outside', 'web01', 'krb5cc'), 'precious')
        await make('other/other_metadata.json', 'other/web01/krb5cc', `${ID}/`)
        for (const { path, what } of things) await place(join(leases, ID, ...path), what)
        const before = await tree(folder)
        const { removed, kept } = await removeLease(leases, ID)
        const after = await tree(folder)
        const isGone = (path: string) => !(path in after)
        expect(Object.keys(before).filter(isGone).toSorted()).toEqual([...removed].toSorted())
        for (const [path, content] of Object.entries(before)) {
          if (isGone(path))
            expect(content === '/' ? path.startsWith(join(leases, ID)) : own.test(path), path).toBe(true)
          else expect(after[path]).toBe(content)
        }
        for (const path of Object.keys(after)) expect(own.test(path) && after[path] === 'a file', path).toBe(false)
        for (const path of kept) expect(after).toHaveProperty([path])
        expect(await removeLease(leases, ID)).toEqual({ removed: [], kept })
      }),
      { numRuns: 150 },
    )
  }, 60_000)

  /** What can't be made there, since something else stands in the way, is left out. */
  async function place(path: string, what: string): Promise<void> {
    const target = {
      'link to a file': 'outside/krb5cc',
      'link to a folder': 'outside',
      'link to a lease': 'krbdir/other',
    }
    try {
      await mkdir(join(path, '..'), { recursive: true, mode: 0o755 })
      if (what === 'file') await writeFile(path, 'a file', { flag: 'wx' })
      else if (what === 'folder') await mkdir(path, { mode: 0o755 })
      else await symlink(join(folder, Object(target)[what]), path)
    } catch (error) {
      if (!['EEXIST', 'ENOTDIR'].includes(String(Object(error).code))) throw error
    }
  }
})
