import { spawnSync } from 'node:child_process'
import { basename, join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { files, root } from '../house/source.ts'
import { program } from '../lab/skip.ts'
import type { KubernetesObject } from './kubernetes.ts'

export const CHART = join(root, 'charts', 'gmsa-account-provider')

/** The names of test/charts/values: what people install the chart with. */
export const VALUE_SETS = files('test/charts/values/*.yaml').map((path) => basename(path, '.yaml'))

export const valuesFile = (name: string): string => join(root, 'test', 'charts', 'values', `${name}.yaml`)

export interface Rendering {
  /** Absent: `contoso-ccg` in `contoso-ad`. */
  readonly release?: string
  readonly namespace?: string
  /** One of {@link VALUE_SETS}. */
  readonly values?: string
  /** Further arguments, such as `--set`. */
  readonly args?: readonly string[]
  readonly chart?: string
}

/** Runs helm, without a cluster and without the user's own settings. */
export function helm(...args: readonly string[]): {
  readonly code: number
  readonly output: string
  readonly said: string
} {
  const env = { PATH: process.env['PATH'], HOME: '/nonexistent', HELM_PLUGINS: '/nonexistent' }
  const { status, stdout, stderr } = spawnSync(program('helm') ?? 'helm', args, {
    encoding: 'utf8',
    env,
    timeout: 60_000,
  })
  return { code: status ?? -1, output: stdout, said: stderr }
}

/** What `helm template` says, to its end or its error. */
export function template({ release, namespace, values, args = [], chart = CHART }: Rendering = {}) {
  return helm(
    'template',
    release ?? 'contoso-ccg',
    chart,
    ...['--namespace', namespace ?? 'contoso-ad', '--kube-version', '1.33.0'],
    ...(values ? ['--values', valuesFile(values)] : []),
    ...args,
  )
}

const rendered = new Map<string, readonly KubernetesObject[]>()

/** Every object of a release, its hooks included; each rendering is made once. */
export function render(rendering: Rendering = {}): readonly KubernetesObject[] {
  const key = JSON.stringify(rendering)
  const objects = rendered.get(key) ?? parseObjects(renderText(rendering))
  rendered.set(key, objects)
  return objects
}

/** The same as text. Throws with what helm said. */
export function renderText(rendering: Rendering = {}): string {
  const { code, output, said } = template(rendering)
  if (code !== 0) throw new Error(said)
  return output
}

/** Kubernetes reads YAML 1.1: 0440 is octal. */
export function parseObjects(text: string): readonly KubernetesObject[] {
  return parseAllDocuments(text, { version: '1.1' }).flatMap((document) => {
    const object: KubernetesObject | null = document.toJS()
    return object === null ? [] : [object]
  })
}

/** The one object of that kind, of that name where there are several. */
export function only(objects: readonly KubernetesObject[], kind: string, suffix = ''): KubernetesObject {
  const found = objects.filter((object) => object.kind === kind && object.metadata.name.endsWith(suffix))
  const [object] = found
  if (!object || found.length > 1) throw new Error(`${found.length} objects ${kind} …${suffix}`)
  return object
}

/** Any value below an object, without its type; undefined where there is none. */
export function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (below, key) => (typeof below === 'object' && below !== null ? Reflect.get(below, key) : undefined),
    value,
  )
}

/** The same for a list; empty where there is none. */
export function listAt(value: unknown, ...path: readonly (string | number)[]): readonly unknown[] {
  const found = at(value, ...path)
  return Array.isArray(found) ? found : []
}

/** The configuration file of a release. */
export function configurationOf(objects: readonly KubernetesObject[]): string {
  const map = objects.find((object) => object.kind === 'ConfigMap' && at(object, 'data', 'config.yaml') !== undefined)
  return String(at(map, 'data', 'config.yaml'))
}

/** The pod specs of a release with the object each stands in. */
export function podsOf(objects: readonly KubernetesObject[]) {
  return objects.flatMap((object) => {
    const template = object.kind === 'Pod' ? object : at(object, 'spec', 'template')
    const spec = at(template, 'spec')
    return spec && listAt(spec, 'containers').length > 0 ? [{ object, template, spec }] : []
  })
}
