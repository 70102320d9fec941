/**
 * Writes deploy/kubernetes: what the chart renders, for those without helm. Needs helm on PATH or built by
 * setup-helm.ts. Tests hold that the files are what would be written; without helm, that nothing they were made of has
 * changed since.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { helmFolder } from './setup-helm.ts'

/** A file, and what of the chart it shows. */
interface Manifest {
  readonly path: string
  readonly about: string
  readonly args: readonly string[]
}

const root = join(import.meta.dirname, '..')
const folder = 'deploy/kubernetes'

export const MANIFESTS: readonly Manifest[] = [
  { path: `${folder}/windows.yaml`, about: 'A host process on each Windows node.', args: ['--no-hooks'] },
  {
    path: `${folder}/windows-cleanup.yaml`,
    about: 'After windows.yaml was deleted: apply, wait for the Job, delete.',
    args: ['--show-only', 'templates/uninstall.yaml'],
  },
  { path: `${folder}/linux.yaml`, about: 'A pod on each Linux node.', args: ['--no-hooks', '--set', 'mode=linux'] },
  {
    path: `${folder}/deployment.yaml`,
    about: 'Two replicas behind a Service.',
    args: ['--no-hooks', '--set', 'mode=deployment'],
  },
]

/** What the manifests are made of: this script, and what of the chart is rendered here; alerts and dashboard are not. */
const INPUTS = ['scripts/manifests.ts', 'charts/*/{Chart,values}.yaml', 'charts/*/templates/**/*.{tpl,yaml}']

/** A comment that is another one when an input is. */
export function originLine(): string {
  const hash = createHash('sha256')
  for (const path of globSync(INPUTS, { cwd: root }).toSorted())
    hash.update(path).update(readFileSync(join(root, path)))
  return `# Of inputs with the hash ${hash.digest('hex')}`
}

/** The text of a manifest, without what only helm has a use for. Throws with what helm said. */
export function manifestText({ about, args }: Manifest): string {
  const image = 'image.repository=registry.example.com/gmsa-account-provider'
  const fixed = ['--namespace', 'contoso-ad', '--kube-version', '1.33.0', '--set', image]
  const PATH = [process.env['PATH'], helmFolder].join(delimiter)
  const command = ['template', 'contoso-ccg', 'charts/gmsa-account-provider', ...fixed, ...args]
  const rendered = execFileSync('helm', command, { cwd: root, encoding: 'utf8', env: { ...process.env, PATH } })
  const plain = rendered
    .replaceAll(/^ +annotations:\n(?: +helm\.sh\/.*\n)+/gm, '')
    .replaceAll(/^ +(?:helm\.sh\/|app\.kubernetes\.io\/managed-by).*\n|^# Source: .*\n|^ *\n/gm, '')
    .replace(/^---\n/, '')
  const origin = 'Release contoso-ccg in namespace contoso-ad, rendered from the chart: node scripts/manifests.ts'
  return `# ${about}\n# ${origin}\n${originLine()}\n${plain}`
}

if (import.meta.main) {
  mkdirSync(join(root, folder), { recursive: true })
  for (const manifest of MANIFESTS) writeFileSync(join(root, manifest.path), manifestText(manifest))
}
