import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { debianRelease, setupDebian } from '../../scripts/setup-debian.ts'

afterEach(() => vi.unstubAllEnvs())

describe('the set-up of Debian packages', () => {
  test('leaves a machine alone that nobody has offered to it', async () => {
    vi.stubEnv('CI', '')
    vi.stubEnv('GMSA_TEST_INSTALL', '')
    const said: string[] = []
    const { done, said: reason } = await setupDebian((line) => said.push(line))
    expect(done).toBe(false)
    expect(reason).toContain('only with CI=true or GMSA_TEST_INSTALL=1')
    expect(said).toEqual([])
  })

  test.each([
    ['ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n', { id: 'debian', version: '12', codename: 'bookworm' }],
    ['NAME="Other"\nID="other"\n', { id: 'other', version: '', codename: '' }],
  ])('knows the system from its os-release file: %j', (content, release) => {
    const folder = mkdtempSync(join(tmpdir(), 'gmsa-release-'))
    writeFileSync(join(folder, 'os-release'), content)
    expect(debianRelease(join(folder, 'os-release'))).toEqual(release)
    rmSync(folder, { recursive: true })
  })
})
