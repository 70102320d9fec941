import { spawnSync } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { files, root, text } from './source.ts'

const scripts = files('{test,scripts,deploy,certs,docs,bench}/**/*.sh', '.ci/run')

test('there are shell scripts', () => {
  expect(scripts).toContain('.ci/run')
  expect(scripts).toContain('test/lab/ad/up.sh')
})

test.each(scripts)('%s is valid bash', (path) => {
  const { status, stderr } = spawnSync('bash', ['-n', join(root, path)], { encoding: 'utf8' })
  expect(stderr).toBe('')
  expect(status).toBe(0)
})

test.each(scripts.filter((path) => text(path).startsWith('#!')))('%s can be executed', (path) => {
  expect(() => accessSync(join(root, path), constants.X_OK)).not.toThrow()
})
