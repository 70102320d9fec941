import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
/** What starts the command line from the sources, after `process.execPath`. */
export const CLI = ['--max-semi-space-size=2', join(ROOT, 'src/cli/main.ts')]

export interface CliResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface CliOptions {
  readonly cwd?: string
  readonly env?: Record<string, string>
  /** In ms. */
  readonly timeout?: number
  /** A program and its arguments that start what follows them: `unshare -m`. */
  readonly within?: readonly string[]
}

/** Runs one command of the real command line to its end, at most `timeout` ms. The environment is only what is given. */
export async function runCli(
  args: readonly string[],
  { cwd = ROOT, env = {}, timeout = 30_000, within = [] }: CliOptions = {},
): Promise<CliResult> {
  const [program = process.execPath, ...rest] = [...within, process.execPath, ...CLI, ...args]
  const child = spawn(program, rest, {
    cwd,
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout,
    killSignal: 'SIGKILL',
  })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk: Buffer) => {
    output.stdout += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    output.stderr += chunk.toString()
  })
  const [code] = await once(child, 'close')
  return { code: Number(code ?? -1), ...output }
}
