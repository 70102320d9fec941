import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { debianRelease } from '../../scripts/setup-debian.ts'
import type { Count } from '../../scripts/tally.ts'
import { root } from './source.ts'

/** A checkout whose tests are these three files, counted as `npm test` counts. */
const checkout = mkdtempSync(join(tmpdir(), 'gmsa-count-'))
const cases = {
  'skips.test.ts': `
import { describe, expect, test } from 'vitest'
import { needs } from './lab/skip.ts'
describe.skipIf(!needs('absent'))('with a missing server', () => { test('asks it', () => { expect(1).toBe(2) }) })
test('says why', ({ skip }) => { skip('not on Sundays') })
test('passes', () => { expect(1).toBe(1) })
test('fails', () => { expect(1).toBe(2) })`,
  'silent.test.ts': `
import { test } from 'vitest'
test.skip('says nothing', () => {})`,
  'broken.test.ts': `throw new Error('does not load')`,
  'setup.test.ts': `
import { beforeAll, describe, test } from 'vitest'
describe('after a failed set-up', () => { beforeAll(() => { throw new Error('no') }); test('is never run', () => {}) })`,
}

function count(env: NodeJS.ProcessEnv): Count {
  const file = join(checkout, 'tally.json')
  rmSync(file, { force: true })
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
  const own = { ...process.env, CI: '', ...env, GMSA_TALLY: file, GMSA_SKIP_NOTES: '' }
  spawnSync(process.execPath, [vitest, 'run', '--root', checkout], { cwd: checkout, env: own, timeout: 60_000 })
  return JSON.parse(readFileSync(file, 'utf8'))
}

beforeAll(() => {
  mkdirSync(join(checkout, 'test', 'lab'), { recursive: true })
  mkdirSync(join(checkout, 'scripts'))
  symlinkSync(join(root, 'node_modules'), join(checkout, 'node_modules'))
  for (const [name, source] of Object.entries(cases)) writeFileSync(join(checkout, 'test', name), source)
  const setUp = ['scripts/setup-debian.ts', 'scripts/setup-helm.ts', 'scripts/setup-python.ts']
  for (const path of ['vitest.config.ts', 'scripts/tally.ts', ...setUp, 'test/lab/skip.ts']) {
    const source = readFileSync(join(root, path), 'utf8')
    // A tool that no machine has.
    writeFileSync(
      join(checkout, path),
      source.replace(`openssl: ['openssl'],`, `openssl: ['openssl'], absent: ['no-such'],`),
    )
  }
})
afterAll(() => rmSync(checkout, { recursive: true, force: true }))

describe('the count at the end', () => {
  test('names each skip with its reason, and counts what could not even start as failed', () => {
    const { passed, failed, skipped } = count({})
    expect(passed).toBe(1)
    // One assertion, one file that does not load, one failed beforeAll.
    expect(failed).toBe(3)
    expect(skipped.sort((a, b) => a.name.localeCompare(b.name))).toEqual([
      { name: 'test/silent.test.ts > says nothing' },
      { name: 'test/skips.test.ts > says why', reason: 'not on Sundays' },
      { name: 'test/skips.test.ts > with a missing server > asks it', reason: 'absent: no-such not found' },
    ])
  })

  test('counts a missing server as failed where the set-up installs it', () => {
    const release = debianRelease()
    const installs = release?.id === 'debian' && ['12', '13'].includes(release.version)
    const { failed, skipped } = count({ CI: 'true' })
    // The file then does not load, with all that is in it.
    expect(failed).toBe(3)
    expect(skipped.some(({ name }) => name.includes('asks it'))).toBe(!installs)
  })
})
