import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cp, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ROOT } from './cli.ts'

/** Compiles one project with the flags of `tsc`. */
export async function compile(project: string, ...flags: readonly string[]): Promise<void> {
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
  await promisify(execFile)(process.execPath, [tsc, '-p', project, ...flags])
}

/** Makes an installation in `directory`, compiled as the image and a package have it. Resolves with its main script. */
export async function install(directory: string): Promise<string> {
  await symlink(join(ROOT, 'node_modules'), join(directory, 'node_modules'), 'junction')
  await cp(join(ROOT, 'package.json'), join(directory, 'package.json'))
  await compile(join(ROOT, 'tsconfig.build.json'), '--outDir', join(directory, 'dist'))
  return join(directory, 'dist/cli/main.js')
}

/** The flags with which the systemd unit of the agent starts Node. */
export function agentFlags(): string[] {
  const unit = readFileSync(join(ROOT, 'deploy/gmsa-agent.service'), 'utf8')
  const flags = /^ExecStart=\/usr\/bin\/node (.*) \S+\/main\.js agent /m.exec(unit)?.[1]
  if (flags === undefined)
    throw new Error('deploy/gmsa-agent.service: expected ExecStart=/usr/bin/node FLAGS …/main.js agent')
  return flags.split(' ')
}
