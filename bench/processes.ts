import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, ftruncateSync, openSync, readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { availableParallelism } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { type Access, ask, closeConnection, type Job, makeContext, openConnection, type Result } from './client.ts'

/** Something to measure: how it is started on a port. */
export interface Target {
  readonly name: string
  /** Arguments of node. */
  arguments(port: number): Promise<readonly string[]>
}

/** A server that has answered once. */
export interface Server {
  readonly port: number
  /** From the start of the process to the first 200, in ms. */
  readonly started: number
  /** utime and stime until then, in ms. */
  readonly startedCpu: number
  /** Processor time so far, in microseconds. */
  cpu(): number
  /** Resident memory, in MiB. */
  memory(): number
  /** Throws away what was logged so far. */
  emptyLog(): void
  stop(): Promise<void>
}

/** As the image starts the service. */
export const NODE_FLAGS = ['--max-semi-space-size=2']
export const ENVIRONMENT = { NODE_ENV: 'production', MALLOC_ARENA_MAX: '1' }
const START_TIMEOUT = 15_000
const POLL = 3

export const isLinux = process.platform === 'linux'
export const isPinned = isLinux && availableParallelism() > 1 && hasTaskset()

const alive = new Set<ChildProcess>()
process.on('exit', endAll)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(1))

function endAll(): void {
  for (const child of alive) child.kill('SIGKILL')
}

function hasTaskset(): boolean {
  try {
    execFileSync('taskset', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** Keeps the process, all of its threads, on one core. */
function pin(pid: number, core: number): void {
  if (isPinned) execFileSync('taskset', ['-a', '-p', '-c', String(core), String(pid)], { stdio: 'ignore' })
}

function keep(child: ChildProcess): void {
  alive.add(child)
  child.once('exit', () => alive.delete(child))
}

/** Starts a server with its log in `logFile`, and pins it to core 0 once it has answered. */
export async function startServer(target: Target, access: Omit<Access, 'port'>, logFile: string): Promise<Server> {
  const port = await freePort()
  const log = openSync(logFile, 'a')
  const begin = performance.now()
  const child = spawn(process.execPath, [...NODE_FLAGS, ...(await target.arguments(port))], {
    env: ENVIRONMENT,
    stdio: ['ignore', log, 'inherit'],
  })
  keep(child)
  const { pid } = child
  if (pid === undefined) throw new Error(`${target.name}: could not be started`)
  await firstAnswer({ ...access, port }, child)
  const started = performance.now() - begin
  const startedCpu = cpuOf(pid) / 1000
  pin(pid, 0)
  return {
    port,
    started,
    startedCpu,
    cpu: () => cpuOf(pid),
    memory: () => memoryOf(pid),
    emptyLog: () => ftruncateSync(log),
    async stop() {
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
      closeSync(log)
    },
  }
}

async function firstAnswer(access: Access, child: ChildProcess): Promise<void> {
  const context = makeContext(access)
  const deadline = performance.now() + START_TIMEOUT
  for (;;) {
    try {
      const socket = await openConnection(access, context)
      await ask(socket, access)
      await closeConnection(socket)
      return
    } catch (error) {
      if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}`)
      if (performance.now() > deadline) throw new Error('the server did not answer in time', { cause: error })
    }
    await pause(POLL)
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen({ host: '127.0.0.1', port: 0 })
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** utime and stime of /proc/PID/stat (proc(5)), whose clock ticks last 10 ms, in microseconds. Nothing off Linux. */
export function cpuOf(pid: number): number {
  if (!isLinux) return Number.NaN
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10_000
}

export function memoryOf(pid: number): number {
  if (!isLinux) return Number.NaN
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]
  return Number(kilobytes) / 1024
}

export interface LoadClient extends Disposable {
  /** Does one job at a time. */
  run(job: Job): Promise<Result>
}

/** Starts the load client, pinned to core 1. */
export function startClient(): LoadClient {
  const child = fork(new URL('./client.ts', import.meta.url), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  keep(child)
  if (child.pid !== undefined) pin(child.pid, 1)
  return {
    async run(job) {
      const ended = new AbortController()
      const onExit = (): void => ended.abort(new Error('the load client ended'))
      child.once('exit', onExit)
      child.send(job)
      try {
        const [result] = await once(child, 'message', { signal: ended.signal })
        return result as Result
      } finally {
        child.off('exit', onExit)
      }
    },
    [Symbol.dispose]: () => void child.kill('SIGKILL'),
  }
}
