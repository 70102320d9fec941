import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
/** What starts the command line from the sources, after `process.execPath`. */
export const CLI = ['--max-semi-space-size=2', join(ROOT, 'src/cli/main.ts')]

export interface CliResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs one command of the real command line to its end, at most `timeout` ms. The environment is only what is given. */
export async function runCli(
  args: readonly string[],
  { cwd = ROOT, env = {}, timeout = 30_000 }: { cwd?: string; env?: Record<string, string>; timeout?: number } = {},
): Promise<CliResult> {
  const child = spawn(process.execPath, [...CLI, ...args], {
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

/** The real service in a process of its own; it listens. */
export interface RunningService {
  readonly child: ChildProcess
  readonly port: number
  /** What it logged so far, a JSON object a line. */
  readonly lines: Record<string, unknown>[]
  readonly exited: Promise<[number | null, NodeJS.Signals | null]>
}

/** Starts `run` by this command line, and waits until it listens. `started` is told of the child at once. */
export async function startRun(
  [command = '', ...args]: readonly string[],
  { cwd = ROOT, env = process.env }: { cwd?: string; env?: NodeJS.ProcessEnv },
  started: (child: ChildProcess) => void,
): Promise<RunningService> {
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'inherit'] })
  started(child)
  const lines: Record<string, unknown>[] = []
  const exited = once(child, 'exit') as RunningService['exited']
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  createInterface({ input: child.stdout }).on('line', (text) => {
    const line: Record<string, unknown> = JSON.parse(text)
    lines.push(line)
    if (line['msg'] === 'listening') resolve(Number(line['port']))
  })
  void exited.then(() => reject(new Error('ended before it listened')))
  return { child, port: await promise, lines, exited }
}
