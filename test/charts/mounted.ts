import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { CLI } from '../fakes/cli.ts'
import { at, listAt, podsOf } from './helm.ts'
import type { KubernetesObject } from './kubernetes.ts'

/** Contents of Secrets and ConfigMaps, by name and key. */
export type Contents = Readonly<Record<string, Readonly<Record<string, string>>>>

/** A container of a release as a process of this machine: what kubelet would give it, below a folder. */
export interface MountedProcess {
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

/** Absolute paths of the container; all of them move below the folder. */
const ROOTS = ['/etc/gmsa-account-provider', '/var/lib/rancher']

/**
 * Mounts what the pod of the service mounts, as kubelet does: each volume a set of links into a folder that is
 * swapped as a whole. Throws where a volume asks for a Secret, ConfigMap or key that there is not.
 */
export async function mountRelease(
  objects: readonly KubernetesObject[],
  folder: string,
  { contents, podIp }: { readonly contents: Contents; readonly podIp: string },
): Promise<MountedProcess> {
  const moved = (text: string) => ROOTS.reduce((said, path) => said.replaceAll(path, join(folder, path)), text)
  const { spec } = podsOf(objects).find(({ object }) => /^(?:DaemonSet|Deployment)$/.test(object.kind)) ?? {}
  const container = at(spec, 'containers', 0)
  const maps = objects.filter(({ kind }) => kind === 'ConfigMap')
  const own = Object.fromEntries(maps.map(({ metadata, data }) => [metadata.name, Object(data)]))
  for (const mount of listAt(container, 'volumeMounts')) {
    const volume = listAt(spec, 'volumes').find((each) => at(each, 'name') === at(mount, 'name'))
    const files = filesOf(volume, { ...own, ...contents })
    await project(join(folder, String(at(mount, 'mountPath'))), modeOf(volume), files, moved)
  }
  return { args: listAt(container, 'args').map((arg) => moved(String(arg))), env: environmentOf(container, podIp) }
}

const modeOf = (volume: unknown): number => Number(at(volume, 'secret', 'defaultMode') ?? 0o644)

/** File names and contents of a volume. */
function filesOf(volume: unknown, contents: Contents): Readonly<Record<string, string>> {
  const name = String(at(volume, 'secret', 'secretName') ?? at(volume, 'configMap', 'name'))
  const data = contents[name]
  if (!data) throw new Error(`nothing is called ${name}`)
  const items = at(volume, 'secret', 'items')
  if (items === undefined) return data
  const pick = (item: unknown): [string, string] => {
    const text = data[String(at(item, 'key'))]
    if (text === undefined) throw new Error(`${name} has no ${at(item, 'key')}`)
    return [String(at(item, 'path')), text]
  }
  return Object.fromEntries(listAt(volume, 'secret', 'items').map(pick))
}

async function project(
  path: string,
  mode: number,
  files: Readonly<Record<string, string>>,
  moved: (text: string) => string,
): Promise<void> {
  await mkdir(join(path, '..2026_11_23'), { recursive: true })
  await symlink('..2026_11_23', join(path, '..data'))
  for (const [name, text] of Object.entries(files)) {
    await writeFile(join(path, '..data', name), name === 'config.yaml' ? moved(text) : text)
    await chmod(join(path, '..data', name), mode)
    await symlink(join('..data', name), join(path, name))
  }
}

/** The variables of a container, with `$(NAME)` filled in from those before. */
export function environmentOf(container: unknown, podIp: string): Record<string, string> {
  const env: Record<string, string> = {}
  for (const variable of listAt(container, 'env')) {
    const source = at(variable, 'valueFrom', 'fieldRef', 'fieldPath')
    if (source !== undefined && source !== 'status.podIP') throw new Error(`not known here: ${source}`)
    const value = source ? podIp : String(at(variable, 'value'))
    env[String(at(variable, 'name'))] = value.replaceAll(/\$\((\w+)\)/g, (whole, name) => env[name] ?? whole)
  }
  return env
}

/** The real program, listening. */
export interface Running extends AsyncDisposable {
  /** The line of its log that says where it listens. */
  readonly said: Readonly<Record<string, unknown>>
}

/** Starts the program with nothing but these arguments and variables. Rejects when it ends before it listens. */
export async function startMounted({ args, env }: MountedProcess): Promise<Running> {
  const given = { PATH: process.env['PATH'], ...env }
  const child = spawn(process.execPath, [...CLI, ...args], { env: given, stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  const end = async () => {
    child.kill('SIGKILL')
    await exited
  }
  for await (const line of createInterface({ input: child.stdout })) {
    const said: Record<string, unknown> = JSON.parse(line)
    if (said['msg'] === 'listening') return { said, [Symbol.asyncDispose]: end }
  }
  throw new Error('ended before it listened')
}
