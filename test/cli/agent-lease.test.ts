import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { agentConfigOf } from '../../src/cli/agent-config.ts'
import { runCli } from '../fakes/cli.ts'

const TLS = { certificate: '/c', key: '/k', ca: '/a' }
const configOf = (accounts: object, more: object = {}) =>
  agentConfigOf({ servers: ['https://a'], tls: TLS, leases: { directory: '/krbdir' }, accounts, ...more }, '/')

/** What is wrong with the accounts, by path and problem. */
function problemsOf(accounts: object, more?: object): string[] {
  const loaded = configOf(accounts, more)
  if (!loaded.ok) return loaded.problems.map(({ path, message }) => `${path}: ${message}`)
  return [...loaded.config.disabled.values()].flat().map((text) => text.replace(/^flags: /, ''))
}

describe('T4: leases in the configuration', () => {
  test('T4: a ticket stands in its lease, under the gMSA or how the service calls it', () => {
    const loaded = configOf({
      web01: { ccache: { lease: 'credspec', mode: '0640' } },
      reports: { account: 'sql01', ccache: { lease: '73099acdb5807b4bbf91', gmsa: 'SQL_01' } },
    })
    expect(loaded).toMatchObject({
      ok: true,
      config: {
        leases: '/krbdir',
        outputs: [
          {
            kind: 'ccache',
            file: '/krbdir/credspec/web01/krb5cc',
            mode: 0o640,
            lease: { directory: '/krbdir', lease: 'credspec', gmsa: 'web01' },
          },
          { file: '/krbdir/73099acdb5807b4bbf91/SQL_01/krb5cc', ticket: { lifetime: 36_000_000 } },
        ],
      },
    })
  })

  const good = { good: { initiatorKeytab: { file: '/keytab' } } }
  test.each<[string, object, object, string]>([
    ['both', { file: '/f', lease: 'a' }, {}, 'accounts.x.ccache: expected either file or lease'],
    ['neither', { mode: '0600' }, {}, 'accounts.x.ccache: expected either file or lease'],
    ['a gMSA without a lease', { file: '/f', gmsa: 'a' }, {}, 'accounts.x.ccache.gmsa: only with lease'],
    [
      'no folder of leases',
      { lease: 'a' },
      { leases: undefined },
      'accounts.x.ccache.lease: expected leases.directory',
    ],
    ['a lease that is no ID', { lease: '../x' }, {}, 'accounts.x.ccache.lease: expected a lease ID'],
    ['a gMSA that is no name', { lease: 'a', gmsa: '..' }, {}, "accounts.x.ccache.gmsa: expected a gMSA's name"],
    [
      'the record of the lease',
      { lease: 'a', gmsa: 'a_metadata.json' },
      {},
      "accounts.x.ccache.gmsa: expected a gMSA's",
    ],
    ["a keytab's file", { file: '/keytab' }, {}, 'accounts.x.ccache.file: expected another file than that of a keytab'],
  ])('T4: %s is an error with its place', (_what, ccache, more, said) => {
    const problems = problemsOf({ ...good, x: { ccache } }, more)
    expect(problems).toEqual([expect.stringContaining(said)])
  })

  test('T4: two accounts can’t have the same ticket', () => {
    const one = { ccache: { lease: 'a', gmsa: 'web01' } }
    expect(problemsOf({ web01: { ccache: { lease: 'a' } }, x: one })).toEqual([
      expect.stringContaining('accounts.x.ccache.lease: expected another file than that of web01'),
    ])
    expect(problemsOf({ web01: { ccache: { file: '/krbdir/a/web01/krb5cc' } }, x: one })).toHaveLength(1)
    expect(problemsOf({ web01: { ccache: { lease: 'b' } }, x: one })).toEqual([])
    expect(problemsOf({ a: { ccache: { file: 5 } }, b: { ccache: { lease: 5 } } })).toHaveLength(2)
  })
})

describe('T5: agent lease', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gmsa-lease-'))
    await mkdir(join(folder, 'krbdir', 'old', 'web01'), { recursive: true })
    await mkdir(join(folder, 'krbdir', 'credspec', 'web01'), { recursive: true })
    for (const path of ['', 'old', 'old/web01', 'credspec']) await chmod(join(folder, 'krbdir', path), 0o755)
    await writeFile(join(folder, 'krbdir', 'old', 'web01', 'krb5cc'), '')
    await writeFile(join(folder, 'krbdir', 'old', 'old_metadata.json'), '{}')
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  async function lease(args: readonly string[], accounts = '  web01: { ccache: { lease: credspec } }', more = '') {
    const text = [
      "servers: ['https://localhost:1']",
      'tls: { certificate: c, key: k, ca: a }',
      'leases: { directory: krbdir }',
      more,
      'accounts:',
      accounts,
    ]
    await writeFile(join(folder, 'agent.yaml'), text.join('\n'))
    return runCli(['agent', 'lease', ...args, '--config', join(folder, 'agent.yaml')])
  }
  const left = async () => (await readdir(join(folder, 'krbdir'))).toSorted()

  test('T5: list shows which leases are in use and which are left over', async () => {
    const { code, stdout, stderr } = await lease(['list'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toBe(
      ['lease     state       gMSAs', 'credspec  configured  web01', 'old       left over   web01', ''].join('\n'),
    )
    const json = JSON.parse((await lease(['list', '--json'])).stdout)
    expect(json).toMatchObject({
      leases: [{ configured: true }, { lease: 'old', gmsas: ['web01'], configured: false }],
    })
  })

  test('T5: remove takes away what is left over, names it, and is content to find nothing', async () => {
    const { code, stdout } = await lease(['remove', 'old'])
    expect(code).toBe(0)
    const old = join(folder, 'krbdir', 'old')
    const paths = [join(old, 'web01', 'krb5cc'), join(old, 'old_metadata.json'), join(old, 'web01'), old]
    expect(stdout).toBe(paths.map((path) => `removed  ${path}\n`).join(''))
    expect(await left()).toEqual(['credspec'])
    expect(await lease(['remove', 'old'])).toEqual({ code: 0, stdout: 'there is no such lease\n', stderr: '' })
  })

  test.each([
    ['one that is no ID', '../krbdir/old', undefined, 1, 'lease ID: expected letters'],
    ['one without anything', '', undefined, 1, 'lease ID: expected letters'],
    ['one in use', 'credspec', undefined, 1, 'an account of the configuration names this lease'],
    [
      'any while an account is wrong',
      'old',
      '  web01: { ccache: { lease: credspec } }\n  sql01: { ccache: { lease: [old] } }',
      78,
      'accounts.sql01: wrong',
    ],
  ])('T5: remove refuses %s', async (_what, id, accounts, code, said) => {
    const result = await lease(['remove', id], accounts)
    expect(result.code).toBe(code)
    expect(result.stderr).toContain(said)
    expect(await left()).toEqual(['credspec', 'old'])
  })
})
