import { type ChildProcess, fork, spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, chown, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { KeytabFiles } from '../../src/agent/keytab-files.ts'
import { mergeKeytab } from '../../src/agent/merge.ts'
import { openTarget } from '../../src/agent/target.ts'
import { Secret } from '../../src/base/secret.ts'
import type { KeytabEntry } from '../../src/kerberos/keytab.ts'
import { parsePrincipal } from '../../src/kerberos/principal.ts'
import { type AgentRig, kvnosOf, makeAgentRig, namesIn } from '../fakes/agent-rig.ts'
import { CLI } from '../fakes/cli.ts'
import { needs } from '../lab/skip.ts'

const isRoot = process.getuid?.() === 0
/** Nobody on Debian and most others. */
const NOBODY = 65534

describe('K11: ten thousand replacements under the eyes of four readers', () => {
  test('K11, K12: none ever sees a part, an absence, or another mode or owner', async () => {
    // In memory, where there is such a place: ten thousand times to disk and back takes minutes, and shows no more.
    const folder = await mkdtemp(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'gmsa-readers-'))
    const children: ChildProcess[] = []
    try {
      const file = join(folder, 'keytab')
      const owner = isRoot ? { uid: 1654, gid: 1655 } : { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
      const target = await openTarget({ file, mode: 0o640, ...owner })
      const files = new KeytabFiles()
      const replace = (turn: number) => {
        const fresh = [18, 17].map((enctype): KeytabEntry => {
          const key = new Secret(new Uint8Array(enctype === 18 ? 32 : 16).fill(turn))
          return { principal: parsePrincipal('HTTP/web01@AD.TEST'), kvno: turn, timestamp: turn, enctype, key }
        })
        return files.update(target, {
          by: 'test',
          fresh,
          merge: (existing) =>
            mergeKeytab({ existing, fresh, use: 'acceptor', now: turn * 1000, keepPrevious: 60_000 }).entries,
          onReplacing: async () => {},
        })
      }
      await replace(1)
      const script = join(import.meta.dirname, '../lab/keytab-reader.ts')
      const wished = `640 ${owner.uid} ${owner.gid}`
      for (let reader = 0; reader < 4; reader++) children.push(fork(script, [file, wished], { stdio: 'inherit' }))
      for (let turn = 2; turn <= 10_001; turn++) expect((await replace(turn)).changed).toBe(true)
      const reports = await Promise.all(
        children.map(async (child) => {
          child.send('stop')
          const [report] = await once(child, 'message')
          return report as { reads: number; replaced: number; problems: string[] }
        }),
      )
      expect(reports.flatMap(({ problems }) => problems)).toEqual([])
      for (const { reads, replaced } of reports) {
        expect(reads).toBeGreaterThan(1_000)
        expect(replaced).toBeGreaterThan(100)
      }
      expect(await namesIn(folder)).toEqual(['keytab'])
    } finally {
      for (const child of children) child.kill('SIGKILL')
      await rm(folder, { recursive: true, force: true })
    }
  }, 600_000)
})

describe('the real command', () => {
  let at: AgentRig
  beforeEach(async () => {
    at = await makeAgentRig()
  })
  afterEach(async () => await at[Symbol.asyncDispose]())

  const args = (...more: string[]) => {
    const { certificate, key } = at.rig.files.client
    const server = `https://localhost:${at.rig.service.port}`
    const identity = ['--server', server, '--cert', certificate, '--key', key, '--ca', at.rig.files.ca]
    return [...CLI, 'agent', ...identity, '--account', 'web01', '--once', ...more]
  }

  /** Runs it without blocking this process, in which the service is. */
  async function run(command: string, all: readonly string[], options: object = {}) {
    const child = spawn(command, all, { stdio: ['ignore', 'pipe', 'pipe'], ...options })
    const said = { stdout: '', stderr: '' }
    child.stdout.on('data', (text) => {
      said.stdout += text
    })
    child.stderr.on('data', (text) => {
      said.stderr += text
    })
    const [code] = await once(child, 'close')
    return { code, ...said }
  }

  /** Runs the agent for this keytab, with a mount that it alone sees. */
  function runBehind(mount: readonly string[], keytab: string) {
    const inside = ['mount', ...mount, '&&', 'exec', '"$@"'].join(' ')
    const command = [process.execPath, ...args('--acceptor-keytab', keytab)]
    return run('unshare', ['-m', 'sh', '-c', inside, 'sh', ...command])
  }

  test.skipIf(!needs('mounts'))('K13: a mount of the single file is found and said, and the file stays', async () => {
    await writeFile(at.path('outside'), '')
    await writeFile(at.path('keytab'), '')
    const mount = ['--bind', at.path('outside'), at.path('keytab')]
    const { code, stderr } = await runBehind(mount, at.path('keytab'))
    expect(code).toBe(1)
    expect(stderr).toMatch(/a mount of this single file, which can't be replaced\n.*hint: mount its folder/)
    expect((await stat(at.path('outside'))).size).toBe(0)
  })

  test.skipIf(!needs('mounts'))(
    'K13: elsewhere a mount of the folder shows the new file, and one of the file the old one',
    async () => {
      for (const name of ['kept', 'folder']) await mkdir(at.path(name))
      await writeFile(at.path('single'), '')
      const keytab = at.path('kept/keytab')
      const keep = (account: string) => run(process.execPath, args('--account', account, '--acceptor-keytab', keytab))
      const digest = async () =>
        createHash('sha256')
          .update(await readFile(keytab))
          .digest('hex')
      expect(await keep('web01')).toMatchObject({ code: 0 })
      // Another container: it reads both, and once more when it is told.
      const mounts = 'mount --bind "$0/kept/keytab" "$0/single" && mount --bind "$0/kept" "$0/folder"'
      const look = 'sha256sum <"$0/single" && sha256sum <"$0/folder/keytab"'
      const reader = spawn('unshare', ['-m', 'sh', '-c', `${mounts} && ${look} && read go && ${look}`, at.folder])
      const lines = createInterface({ input: reader.stdout })[Symbol.asyncIterator]()
      const seen = async () => [await lines.next(), await lines.next()].map(({ value }) => String(value).split(' ')[0])
      try {
        const before = await digest()
        expect(await seen()).toEqual([before, before])
        expect(await keep('sql01')).toMatchObject({ code: 0 })
        const after = await digest()
        expect(after).not.toBe(before)
        reader.stdin.end('go\n')
        expect(await seen()).toEqual([before, after])
      } finally {
        reader.kill('SIGKILL')
      }
    },
  )

  test.skipIf(!needs('mounts'))(
    'K13: a read-only volume, as of a Kubernetes Secret, is said at the start',
    async () => {
      await mkdir(at.path('volume'))
      const mount = ['-t', 'tmpfs', '-o', 'ro', 'tmpfs', at.path('volume')]
      const { code, stderr } = await runBehind(mount, at.path('volume/keytab'))
      expect(code).toBe(1)
      expect(stderr).toMatch(/can't be written \(EROFS\)\n.*hint: .*emptyDir/)
    },
  )

  test.skipIf(!needs('root'))('K12: another user can’t give the file away, and is told at the start', async () => {
    await chmodAll(at.rig.directory)
    await chown(at.folder, NOBODY, NOBODY)
    const config = at.path('agent.yaml')
    const { certificate, key } = at.rig.files.client
    const tls = `{ certificate: ${certificate}, key: ${key}, ca: ${at.rig.files.ca} }`
    const text = `servers: ['https://localhost:${at.rig.service.port}']\ntls: ${tls}\naccounts:\n  web01: { acceptorKeytab: { file: keytab, owner: 0 } }\n`
    await writeFile(config, text)
    const as = { uid: NOBODY, gid: NOBODY, cwd: at.folder }
    const refused = await run(process.execPath, [...CLI, 'agent', '--config', config, '--once'], as)
    expect(refused.code).toBe(1)
    expect(refused.stderr).toMatch(
      /can't be written \(EPERM, owner 0, group as is\)\n.*hint: only root gives files away/,
    )
    expect((await namesIn(at.folder)).filter((name) => name.includes('keytab'))).toEqual([])
    const checked = await run(process.execPath, [...CLI, 'agent', 'check', '--config', config], as)
    expect(checked.code).toBe(1)
    expect(checked.stdout).toMatch(/^failed {3}web01 acceptor file .*owner 0, group as is can't be set$/m)
  })

  test.skipIf(!needs('root'))('K12, S3: another user gives the file a group by a setgid folder', async () => {
    await chmodAll(at.rig.directory)
    await chown(at.folder, NOBODY, 1655)
    await chmod(at.folder, 0o2770)
    const as = { uid: NOBODY, gid: NOBODY, cwd: at.folder }
    const { code, stderr } = await run(process.execPath, args('--acceptor-keytab', at.path('keytab')), as)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(await stat(at.path('keytab'))).toMatchObject({ uid: NOBODY, gid: 1655 })
    const config = at.path('agent.yaml')
    const tls = `{ certificate: ${at.rig.files.client.certificate}, key: ${at.rig.files.client.key}, ca: ${at.rig.files.ca} }`
    await writeFile(
      config,
      `servers: ['https://localhost:${at.rig.service.port}']\ntls: ${tls}\naccounts:\n  web01: { acceptorKeytab: { file: keytab, group: 1655, mode: '0640' } }\n`,
    )
    expect(await run(process.execPath, [...CLI, 'agent', '--config', config, '--once'], as)).toMatchObject({ code: 0 })
    expect((await stat(at.path('keytab'))).mode & 0o7777).toBe(0o640)
    const check = [...CLI, 'agent', 'check', '--config', config]
    expect(await run(process.execPath, check, as)).toMatchObject({ code: 0 })
    await chmod(at.folder, 0o770)
    const { code: without, stdout } = await run(process.execPath, check, as)
    expect({ without, stdout }).toMatchObject({
      without: 1,
      stdout: expect.stringContaining("group 1655 can't be set"),
    })
  })

  test('S2: starts no program, not even for names or Kerberos: it works where none can be started', async () => {
    const bar = [
      "import { createRequire, syncBuiltinESMExports } from 'node:module'",
      "const children = createRequire('file:///')('node:child_process')",
      "for (const way of ['spawn', 'fork', 'exec', 'execFile', 'spawnSync', 'execSync', 'execFileSync']) {",
      "  children[way] = () => { throw new Error('no program may be started') }",
      '}',
      'syncBuiltinESMExports()',
    ]
    const barred = ['--import', `data:text/javascript,${encodeURIComponent(bar.join('\n'))}`]
    const both = args('--acceptor-keytab', at.path('acceptor'), '--initiator-keytab', at.path('initiator'))
    expect(await run(process.execPath, [...barred, ...both])).toMatchObject({ code: 0, stderr: '' })
    expect(kvnosOf(await at.keytab('acceptor'))).toEqual([9, 8])
    const hook = await run(process.execPath, [
      ...barred,
      ...args('--acceptor-keytab', at.path('other'), '--on-change', 'true'),
    ])
    expect(hook.code).toBe(1)
  })
})

/** Lets other users reach what is in the folder; its keys are those of this test alone. */
async function chmodAll(folder: string): Promise<void> {
  expect(spawnSync('chmod', ['-R', 'a+rX', folder]).status).toBe(0)
}
