/**
 * Builds the helm that renders the chart in tests, with the machine's own Go toolchain, into a folder of the checkout
 * that git ignores. It acts only with CI=true or GMSA_TEST_INSTALL=1; modules go where Go keeps them anyway.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'

const version = 'v3.22.0'
/** What helm takes for the cluster's version where it is told none: without these, one of 2020. */
const kubernetes = ['Major=1', 'Minor=33'].map((each) => `-X helm.sh/helm/v3/pkg/chartutil.k8sVersion${each}`)
/** Three minutes of two idle cores with nothing in the module cache. */
const limit = 15 * 60_000

/** Where the built program is. */
export const helmFolder = join(dirname(import.meta.dirname), '.toolchain', 'helm')

/** The `go` of this machine, on PATH or where Go's own packages put it, or undefined. */
export function goProgram(path = process.env['PATH'] ?? ''): string | undefined {
  return [...path.split(delimiter), '/usr/local/go/bin']
    .map((folder) => join(folder, 'go'))
    .find((file) => existsSync(file))
}

const found = (path: string) => path.split(delimiter).some((folder) => existsSync(join(folder, 'helm')))

/** Never rejects; answers what was done or why nothing was. `say` gets one line before the building begins. */
export async function setupHelm(say: (line: string) => void, folder = helmFolder, env = process.env): Promise<string> {
  if (existsSync(join(folder, 'helm')) || found(env['PATH'] ?? '')) return 'there'
  if (env['CI'] !== 'true' && env['GMSA_TEST_INSTALL'] !== '1') return 'built only with CI=true or GMSA_TEST_INSTALL=1'
  const go = goProgram(env['PATH'])
  if (!go) return 'no Go toolchain to build it with'
  say(`building ${version} with ${go}; this takes minutes once`)
  await mkdir(folder, { recursive: true })
  const flags = ['-trimpath', '-ldflags', ['-s', '-w', ...kubernetes].join(' ')]
  const child = spawn(go, ['install', ...flags, `helm.sh/helm/v3/cmd/helm@${version}`], {
    env: { ...env, GOBIN: folder, CGO_ENABLED: '0' },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: limit,
  })
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  return new Promise((resolve) => {
    child.on('error', (error) => resolve(String(error)))
    child.on('close', (code) => {
      resolve(
        code === 0
          ? 'built'
          : `go install ended with code ${code}:\n${errors.trimEnd().split('\n').slice(-5).join('\n')}`,
      )
    })
  })
}

if (import.meta.main) {
  const said = await setupHelm((line) => console.error(line))
  console.error(said)
  process.exitCode = ['there', 'built'].includes(said) ? 0 : 1
}
