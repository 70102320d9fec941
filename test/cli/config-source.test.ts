import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { loadConfig } from '../../src/cli/config.ts'
import { problemsOf as problemsIn } from './problems-of.ts'

const folder = mkdtempSync(join(tmpdir(), 'config-'))
afterAll(() => rmSync(folder, { recursive: true }))

const problemsOf = (text: string | Uint8Array, name = 'gmsa.yaml') => problemsIn(text, join(folder, name))

const SOUND = `tls: { certificate: tls.crt, key: tls.key, clientCa: ca.crt }
providers: { local: { type: file, directory: secrets } }
accounts: { svc: { provider: local } }
`

describe('a file that cannot be read is a problem', () => {
  test('missing', async () => {
    const result = await loadConfig({ file: join(folder, 'none.yaml'), env: {}, cwd: '/' })
    expect(result).toEqual({
      ok: false,
      problems: [{ source: join(folder, 'none.yaml'), path: '', message: 'no such file' }],
    })
  })

  test('a directory', async () => {
    const result = await loadConfig({ file: folder, env: {}, cwd: '/' })
    expect(result).toEqual({
      ok: false,
      problems: [{ source: folder, path: '', message: 'expected a file, found a directory' }],
    })
  })

  test('an endless device', async () => {
    const result = await loadConfig({ file: '/dev/zero', env: {}, cwd: '/' })
    expect(result).toMatchObject({ ok: false, problems: [{ message: 'expected a file of at most 1 MiB' }] })
  })

  test('more than 1 MiB', async () => {
    expect(await problemsOf(`${SOUND}#${'x'.repeat(1024 * 1024)}`)).toEqual(['expected a file of at most 1 MiB'])
  })

  test('bytes that are not UTF-8', async () => {
    expect(await problemsOf(Uint8Array.of(0x61, 0xff, 0xfe))).toEqual(['expected text in UTF-8'])
  })

  test('nested beyond the stack', async () => {
    const problems = await problemsOf('['.repeat(100_000))
    expect(problems).toEqual([expect.stringMatching(/nested too deeply$/)])
  })

  test('grown by aliases', async () => {
    const names = 'abcdefghij'.split('')
    const lines = names.map((name, index) => {
      const before = index === 0 ? 'x' : `*${names[index - 1]}`
      return `${name}: &${name} [${Array(9).fill(before).join(', ')}]`
    })
    expect(await problemsOf(lines.join('\n'))).toContain('1:1: the file is too large once its aliases are resolved')
  })

  test('nothing to find: the usual places are named', async () => {
    const result = await loadConfig({ env: {}, cwd: folder })
    const message = `not given, and there is no ${join(folder, 'gmsa-account-provider.yaml')} or /etc/gmsa-account-provider/config.yaml`
    expect(result).toEqual({ ok: false, problems: [{ source: '--config', path: '', message }] })
  })

  test('a link to itself', async () => {
    const file = join(folder, 'loop.yaml')
    symlinkSync(file, file)
    const result = await loadConfig({ file, env: {}, cwd: '/' })
    expect(result).toEqual({ ok: false, problems: [{ source: file, path: '', message: 'cannot be read (ELOOP)' }] })
  })
})

test('a file of nearly 1 MiB is read, with a byte order mark and Windows line ends', async () => {
  const text = `\ufeff${SOUND.replaceAll('\n', '\r\n')}#${'x'.repeat(1024 * 1024 - 1000)}`
  expect(await problemsOf(text)).toEqual([])
})
