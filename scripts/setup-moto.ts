/**
 * Puts moto, an emulator of AWS, into a virtual environment of Python in this checkout, for the tests of the store
 * `aws-secrets-manager`. It acts only with CI=true or GMSA_TEST_INSTALL=1, and changes nothing outside `.lab`.
 */
import { existsSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isOffered, run } from './setup-debian.ts'

const packages = ['moto==5.2.5', 'flask==3.1.3', 'flask-cors==6.0.5']
const folder = join(dirname(import.meta.dirname), '.lab', 'moto-5.2.5')
const minute = 60_000

/** The program itself; missing where moto is not installed. */
export const motoServer = join(folder, 'bin', 'moto_server')

/** The first Python that can make a virtual environment: one that comes first in PATH may lack what Debian's has. */
async function findPython(): Promise<string | undefined> {
  for (const python of ['python3', '/usr/bin/python3']) {
    if ((await run(python, ['-c', 'import ensurepip, venv'])).code === 0) return python
  }
  return undefined
}

/** Installs it where it is missing, within bounded time, and says how that went. Never rejects. */
export async function setupMoto(): Promise<string> {
  if (existsSync(motoServer)) return 'all there'
  if (!isOffered()) return 'installed only with CI=true or GMSA_TEST_INSTALL=1'
  const python = await findPython()
  if (!python) return 'not installed: no python3 with venv'
  try {
    await mkdir(dirname(folder), { recursive: true })
    const pip = join(folder, 'bin', 'pip')
    const made = await run(python, ['-m', 'venv', '--clear', folder], undefined, minute)
    const flags = ['--quiet', '--disable-pip-version-check', '--no-input']
    if (made.code === 0 && (await run(pip, ['install', ...flags, ...packages], undefined, 5 * minute)).code === 0) {
      return 'installed'
    }
    // Half of it would look like all of it.
    await rm(folder, { recursive: true, force: true })
    return 'not installed: pip could not get it'
  } catch (error) {
    return `not installed: ${String(error)}`
  }
}

if (import.meta.main) console.error(await setupMoto())
