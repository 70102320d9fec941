import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { environmentOf, every, execForm, parseDockerfile, type Stage } from '../house/dockerfile.ts'
import { root, text } from '../house/source.ts'

/** A container engine is not needed: COPY and RUN are replayed in a folder, and the entry point is started from it. */
const folder = mkdtempSync(join(tmpdir(), 'gmsa-image-'))
const stages = parseDockerfile(text('Dockerfile'))
const image = stages.at(-1) ?? { base: '', alias: undefined, instructions: [] }
const rootOf = (stage: Stage) => join(folder, stage.alias ?? 'image')

/** Environment of a build step: this Node first, npm's cache where the set-up left one, and nothing of this run's npm. */
function buildEnvironment(): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name) && name !== 'NODE_ENV')
  const privateCache = join(root, '.toolchain', 'npm-cache')
  const cache = existsSync(privateCache) ? privateCache : process.env['npm_config_cache']
  return {
    ...Object.fromEntries(own),
    ...(cache ? { npm_config_cache: cache } : {}),
    npm_config_prefer_offline: 'true',
    PATH: [dirname(process.execPath), process.env['PATH']].join(delimiter),
  }
}

function copy(rest: string, workdir: string): void {
  const words = rest.split(/\s+/)
  const from = words[0]?.startsWith('--from=') ? words.shift()?.slice('--from='.length) : undefined
  const target = words.pop() ?? ''
  for (const source of words) {
    const origin = from ? join(folder, from, source) : join(root, source)
    const goal = target.endsWith('/') ? join(workdir, target, source) : join(workdir, target)
    cpSync(origin, goal, { recursive: true, verbatimSymlinks: true })
  }
}

function replay(stage: Stage): void {
  let workdir = rootOf(stage)
  for (const { name, rest } of stage.instructions) {
    if (name === 'WORKDIR') workdir = join(rootOf(stage), rest)
    mkdirSync(workdir, { recursive: true })
    if (name === 'COPY') copy(rest, workdir)
    if (name !== 'RUN') continue
    const { status, stderr, stdout } = spawnSync('sh', ['-c', rest], {
      cwd: workdir,
      env: buildEnvironment(),
      encoding: 'utf8',
    })
    if (status !== 0) throw new Error(`RUN ${rest} ended with code ${status}\n${stdout}${stderr}`)
  }
}

/** Starts the entry point with `args` as the image's user (as ourselves where we are not root). */
function start(...args: string[]) {
  const inside = (word: string) => (word.startsWith('/') ? join(rootOf(image), word) : word)
  const [command = '', ...fixed] = execForm(image, 'ENTRYPOINT').map(inside)
  const [uid = 0, gid = 0] = (every(image, 'USER').at(-1) ?? '').split(':').map(Number)
  const user = process.getuid?.() === 0 ? { uid, gid } : {}
  return spawnSync(command, [...fixed, ...args], {
    cwd: join(rootOf(image), 'app'),
    env: environmentOf(image),
    encoding: 'utf8',
    timeout: 30_000,
    ...user,
  })
}

describe('the steps of the Dockerfile', () => {
  beforeAll(() => {
    chmodSync(folder, 0o755)
    for (const stage of stages) replay(stage)
    const node = join(rootOf(image), 'nodejs', 'bin', 'node')
    mkdirSync(dirname(node), { recursive: true })
    try {
      linkSync(process.execPath, node)
    } catch {
      copyFileSync(process.execPath, node)
    }
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  test('lead to a program that starts as the image starts it', () => {
    const { status, stdout, stderr } = start('--version')
    expect(stderr).toBe('')
    expect(stdout.split(' ')[0]?.trim()).toBe(JSON.parse(text('package.json')).version)
    expect(status).toBe(0)
  })

  test('leave no tool, no test and no TypeScript source in it', () => {
    const app = join(rootOf(image), 'app')
    expect(readdirSync(app).sort()).toEqual(['LICENSE', 'dist', 'node_modules', 'package.json'])
    for (const tool of ['typescript', 'vitest', '@biomejs/biome'])
      expect(existsSync(join(app, 'node_modules', tool))).toBe(false)
    expect(readdirSync(join(app, 'dist'), { recursive: true }).filter((path) => String(path).endsWith('.ts'))).toEqual(
      [],
    )
  })
})
