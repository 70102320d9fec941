import { spawn } from 'node:child_process'
import { readFile, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { unlinkQuietly, writeFileAtomically } from '../base/atomic-file.ts'
import type { Clock } from '../base/clock.ts'
import { GmsaError, toGmsaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { CommandHook, HookConfig, OutputConfig, SignalHook } from './config.ts'
import { retryDelay, sleep } from './loop.ts'

/** What a hook is told of the file that changed; nothing of it is secret. */
export interface Change {
  /** Where the file stands. */
  readonly path: string
  readonly kvno: number
}

export interface HookOptions {
  readonly output: Pick<OutputConfig, 'name' | 'kind' | 'file'>
  readonly hook: HookConfig
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  /** Told of each run. */
  readonly onRun: (outcome: 'ok' | 'failed') => void
}

/** Tells a program that its file has changed, until that has worked once. */
export class Hook {
  readonly #options: HookOptions
  readonly #stopping = new AbortController()
  #pending: Change | undefined
  #running: Promise<void> | undefined
  #failures = 0

  constructor(options: HookOptions) {
    this.#options = options
  }

  /** Whether the last change is still to be told. */
  get pending(): boolean {
    return this.#pending !== undefined
  }

  /** Leaves a mark beside the file that is about to be replaced: whoever is started after a crash finds it. */
  async announce(path: string): Promise<void> {
    await writeFileAtomically(this.#markOf(path), '')
  }

  /** Whether a change was announced, by this process or one before it, and not told yet. */
  async isAnnounced(path: string): Promise<boolean> {
    return stat(this.#markOf(path)).then(
      () => true,
      () => false,
    )
  }

  /** Tells in the background, again after a failure; a newer change takes the place of one not told yet. */
  tell(change: Change): void {
    this.#pending = change
    this.#failures = 0
    this.#running ??= this.#drive().finally(() => {
      this.#running = undefined
    })
  }

  /** Tells once. Rejects with a GmsaError; the mark stays then. */
  async tellOnce(change: Change): Promise<void> {
    const { hook, output, onRun } = this.#options
    try {
      await ('command' in hook ? runCommand(hook, environmentOf(output, change)) : sendSignal(hook))
      await unlinkQuietly(this.#markOf(change.path))
      onRun('ok')
    } catch (thrown) {
      onRun('failed')
      throw thrown
    }
  }

  /** Resolves once no program runs any more; what is not told stays marked. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  async #drive(): Promise<void> {
    const { output, clock, random, log } = this.#options
    const { name: account, kind } = output
    const { signal } = this.#stopping
    while (this.#pending && !signal.aborted) {
      const change = this.#pending
      try {
        await this.tellOnce(change)
        log.info({ account, kind, kvno: change.kvno }, 'change told')
        if (this.#pending === change) this.#pending = undefined
      } catch (thrown) {
        const wait = retryDelay(this.#failures, random())
        const level = this.#failures === 0 ? 'warn' : 'debug'
        this.#failures += 1
        const { message } = toGmsaError(thrown)
        log[level](
          { account, kind, problem: message, retryInMs: Math.round(wait) },
          'change could not be told; the file stays',
        )
        await sleep(clock, wait, signal)
      }
    }
  }

  #markOf(path: string): string {
    const { name, kind } = this.#options.output
    return join(dirname(path), `.${basename(path)}.${name}-${kind}.pending`)
  }
}

/** All that the program sees of our environment, for there may be secrets in it. */
function environmentOf({ name, kind, file }: HookOptions['output'], { kvno }: Change): NodeJS.ProcessEnv {
  return {
    PATH: process.env['PATH'] ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    GMSA_ACCOUNT: name,
    GMSA_KIND: kind,
    GMSA_FILE: file,
    GMSA_KVNO: String(kvno),
  }
}

/**
 * Runs the program without a shell, and ends it with all that it started when its time is up. What it writes goes
 * nowhere: it may read the file, and our log, our own output among it, must not show a key.
 */
async function runCommand(
  { command: [program, ...args], timeout }: CommandHook,
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  // In a process group of its own, so that the whole of it can be ended.
  const child = spawn(program, args, { env, stdio: 'ignore', detached: true })
  const fail = (how: string) => reject(new GmsaError('STORE_UNAVAILABLE', `${program}: ${how}`))
  // Real time, as the program lives in it.
  const timer = setTimeout(() => {
    fail(`not done within ${timeout / 1000} s`)
    killGroup(child.pid)
  }, timeout)
  child.on('error', (error: NodeJS.ErrnoException) => fail(`can't be run (${error.code})`))
  child.on('exit', (code, signal) => {
    if (code === 0) resolve()
    else fail(code === null ? `ended by ${signal}` : `ended with code ${code}`)
  })
  await promise.finally(() => clearTimeout(timer))
}

function killGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL')
  } catch {
    // It has just ended.
  }
}

/** The most a file with a process number is read of: such a file has one line. */
const MAX_PID_FILE = 64

async function sendSignal({ signal, pidFile }: SignalHook): Promise<void> {
  const text = await readFile(pidFile, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new GmsaError('STORE_UNAVAILABLE', `${pidFile}: can't be read (${error.code})`)
  })
  const [, digits] = /^\s*([1-9][0-9]{0,9})\s*$/.exec(text.slice(0, MAX_PID_FILE)) ?? []
  if (digits === undefined) throw new GmsaError('MATERIAL_MALFORMED', `${pidFile}: expected the number of a process`)
  try {
    process.kill(Number(digits), signal)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new GmsaError('STORE_UNAVAILABLE', `process ${digits} of ${pidFile}: ${signal} can't be sent (${code})`)
  }
}
