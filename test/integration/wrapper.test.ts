import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { root } from '../house/source.ts'

/** A checkout of its own, without packages to fetch, so that nothing here touches the real one. */
const checkout = mkdtempSync(join(tmpdir(), 'gmsa checkout '))
const wrapper = join(checkout, 'scripts', 'run.mjs')
const inherited = Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name))
const env = Object.fromEntries(inherited)

const run = (args: string[], more: NodeJS.ProcessEnv = {}) =>
  spawnSync(process.execPath, [wrapper, ...args], { encoding: 'utf8', env: { ...env, ...more }, timeout: 60_000 })

beforeAll(() => {
  mkdirSync(dirname(wrapper))
  copyFileSync(join(root, 'scripts', 'run.mjs'), wrapper)
  const name = { name: 'checkout', version: '1.0.0' }
  writeFileSync(join(checkout, 'package.json'), JSON.stringify(name))
  const lock = { ...name, lockfileVersion: 3, requires: true, packages: { '': name } }
  writeFileSync(join(checkout, 'package-lock.json'), JSON.stringify(lock))
})
afterAll(() => rmSync(checkout, { recursive: true, force: true }))

describe('the wrapper before every script', () => {
  test('sets up once, in a folder with a space, and is silent from then on', () => {
    expect(run(['node', '-v']).status).toBe(0)
    expect(existsSync(join(checkout, '.toolchain', 'lock'))).toBe(false)
    const { stdout, stderr } = run(['node', '-v'])
    expect(stdout).toMatch(/^v24\./)
    expect(stderr).toBe('')
  })

  test('gives children the same Node and the packages first on their path', () => {
    const [first, second] = run(['node', '-p', 'process.env.PATH']).stdout.split(':')
    expect(first).toBe(dirname(process.execPath))
    expect(second).toBe(join(checkout, 'node_modules', '.bin'))
  })

  test.each([
    ['its own code', ['node', '-e', 'process.exit(78)'], 78],
    ['128 and the signal', ['node', '-e', 'process.kill(process.pid, "SIGKILL")'], 137],
    ['127 where there is no such command', ['no-such-command'], 127],
    ['1 without a command', [], 1],
  ])('ends with the code of the command: %s', (_, args, code) => {
    expect(run(args).status).toBe(code)
  })

  test('starts the service with flat memory when asked to, unless told otherwise', () => {
    const shown = ['node', '-p', 'process.env.MALLOC_ARENA_MAX + " " + process.execArgv[0]']
    expect(run(['--lean', ...shown]).stdout).toContain('1 --max-semi-space-size=2')
    expect(run(['--lean', ...shown], { MALLOC_ARENA_MAX: '4' }).stdout).toContain('4 --max-semi-space-size=2')
    expect(run(shown).stdout).toContain('undefined')
  })

  test('waits for a set-up that is under way, and ends the wait of one that died', async () => {
    rmSync(join(checkout, 'node_modules'), { recursive: true, force: true })
    const lock = join(checkout, '.toolchain', 'lock')
    mkdirSync(lock)
    const waiting = spawn(process.execPath, [wrapper, 'node', '-v'], { env, stdio: ['ignore', 'ignore', 'pipe'] })
    const [chunk] = await once(waiting.stderr, 'data')
    expect(String(chunk)).toContain('waiting for another set-up')
    // The holder is gone and shows no beat: after 15 s its lock counts for nothing.
    const [code] = await once(waiting, 'exit')
    expect(code).toBe(0)
    expect(existsSync(lock)).toBe(false)
  }, 40_000)
})

/** A command that writes each signal it gets into `file` and lives for ten seconds. */
function listening(file: string): string[] {
  const program = `const fs = require('node:fs')
for (const s of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(s, () => fs.appendFileSync(${JSON.stringify(file)}, s + '\\n'))
fs.writeFileSync(${JSON.stringify(file)}, '')
setTimeout(() => process.exit(0), 10_000)
if (process.argv[2]) setTimeout(() => process.exit(3), Number(process.argv[2]))`
  const script = join(checkout, 'listening.cjs')
  writeFileSync(script, program)
  return ['node', script]
}

async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + 8000
  while (!condition()) {
    if (Date.now() > end) throw new Error('it did not happen in time')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

const content = (file: string) => (existsSync(file) ? readFileSync(file, 'utf8') : undefined)

describe('signals', () => {
  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    '%s reaches the command once, however often it comes',
    async (signal) => {
      const file = join(checkout, `got-${signal}`)
      const started = spawn(process.execPath, [wrapper, ...listening(file), '1500'], { env, stdio: 'ignore' })
      await until(() => content(file) !== undefined)
      for (let time = 0; time < 3; time++) {
        started.kill(signal)
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      expect(await once(started, 'exit')).toEqual([3, null])
      expect(content(file)).toBe(`${signal}\n`)
    },
  )

  test('a command is ended when npm is killed above it', async () => {
    const file = join(checkout, 'got-orphaned')
    const words = [process.execPath, wrapper, ...listening(file), '2000'].map((word) => `'${word}'`)
    // As npm does it: a shell in between, which dies and tells nobody.
    const shell = spawn('sh', ['-c', `${words.join(' ')}; true`], {
      env: { ...env, npm_lifecycle_event: 'demo' },
      stdio: 'ignore',
    })
    await until(() => content(file) !== undefined)
    shell.kill('SIGKILL')
    await until(() => content(file) === 'SIGTERM\n')
  })
})
