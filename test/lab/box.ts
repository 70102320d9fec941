import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { dirname, join } from 'node:path'
import { environmentOf, every, execForm, parseDockerfile } from '../house/dockerfile.ts'
import { root, text } from '../house/source.ts'

const image = parseDockerfile(text('Dockerfile')).at(-1) ?? { base: '', alias: undefined, instructions: [] }

/** The user and group as which the image runs. */
export const [imageUser = 0, imageGroup = 0] = (every(image, 'USER').at(-1) ?? '').split(':').map(Number)

export interface BoxOptions {
  /** Folder with the compiled program. */
  readonly dist: string
  /** What else it sees and can't write: paths here by paths inside. */
  readonly readable: Readonly<Record<string, string>>
  /** Folders it can write, likewise. */
  readonly writable?: Readonly<Record<string, string>>
  readonly env?: Readonly<Record<string, string>>
}

/** Compiles the program into `dist` as the image's build does; this process goes on meanwhile. */
export async function compileTo(dist: string): Promise<void> {
  const args = ['-p', 'tsconfig.build.json', '--outDir', dist]
  const child = spawn(join(root, 'node_modules', '.bin', 'tsc'), args, { cwd: root, stdio: 'inherit' })
  const [code] = await once(child, 'exit')
  if (code !== 0) throw new Error('the program does not compile')
}

/**
 * The command line that runs `command` as a container runtime runs our image with `readOnlyRootFilesystem`, no
 * capability and no new privileges: as its user, among processes of its own, with a root of its own that can't be written.
 * The network is this machine's. Ask `needs('bubblewrap')` first.
 */
export function boxed({ dist, readable, writable = {}, env = {} }: BoxOptions, command: readonly string[]): string[] {
  const [node = ''] = execForm(image, 'ENTRYPOINT')
  const program = {
    [node]: process.execPath,
    '/app/dist': dist,
    '/app/node_modules': join(root, 'node_modules'),
    '/app/package.json': join(root, 'package.json'),
  }
  const shown = { ...program, '/etc/hosts': '/etc/hosts', ...readable }
  // Folders that bwrap makes of its own accord are for root alone.
  const folders = new Set([...Object.keys(shown), ...Object.keys(writable)].flatMap(foldersAbove))
  const user = [`--reuid=${imageUser}`, `--regid=${imageGroup}`, '--clear-groups', '--inh-caps=-all']
  return [
    ...['bwrap', '--unshare-pid', '--unshare-ipc', '--unshare-uts', '--die-with-parent', '--clearenv'],
    ...['--ro-bind', '/usr', '/usr'],
    ...['lib', 'lib64', 'bin'].flatMap((name) => ['--symlink', `usr/${name}`, `/${name}`]),
    ...['--proc', '/proc', '--dev', '/dev'],
    ...[...folders].flatMap((folder) => ['--dir', folder]),
    ...Object.entries(shown).flatMap(([inside, outside]) => ['--ro-bind', outside, inside]),
    ...Object.entries(writable).flatMap(([inside, outside]) => ['--bind', outside, inside]),
    ...['--remount-ro', '/', '--chdir', every(image, 'WORKDIR').at(-1) ?? '/', '--'],
    ...['/usr/bin/setpriv', ...user, '--bounding-set=-all', '--no-new-privs'],
    // Only here: what a test preloads is for the program alone.
    ...[
      '/usr/bin/env',
      ...Object.entries({ ...environmentOf(image), ...env }).map(([name, value]) => `${name}=${value}`),
    ],
    ...command,
  ]
}

/** The image's own entry point with these arguments, in the box. */
export const boxedProgram = (options: BoxOptions, ...args: string[]): string[] =>
  boxed(options, [...execForm(image, 'ENTRYPOINT'), ...args])

/** Outermost first. */
function foldersAbove(path: string): string[] {
  const folder = dirname(path)
  return folder === '/' ? [] : [...foldersAbove(folder), folder]
}
