import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { constants, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Count } from './tally.ts'

/** One thing to hold besides the tests; it counts as one passed or failed. */
interface Step {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
}

const root = dirname(import.meta.dirname)
const bin = (name: string) => join(root, 'node_modules', '.bin', name)
const generator = join(root, 'scripts', 'generate.ts')

function steps(): Step[] {
  const always = [
    { name: 'format and lint', command: bin('biome'), args: ['ci', '--colors=off', '--error-on-warnings', '.'] },
    { name: 'lint with types', command: bin('oxlint'), args: ['--type-aware', '--deny-warnings'] },
    { name: 'types', command: bin('tsc'), args: ['-p', '.'] },
    { name: 'unused code', command: bin('knip'), args: [] },
  ]
  const generated = { name: 'generated documents unchanged', command: process.execPath, args: [generator, '--check'] }
  return existsSync(generator) ? [...always, generated] : always
}

/** Everything started here, so that a signal that ends us ends it too. */
type Children = Set<ChildProcess>

function endWith(children: Children): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      for (const child of children) child.kill(signal)
      process.exit(128 + constants.signals[signal])
    })
  }
}

function run(
  children: Children,
  step: Step,
  inherit = false,
  env = process.env,
): Promise<{ code: number; text: string }> {
  return new Promise((resolve) => {
    const child = spawn(step.command, step.args, {
      cwd: root,
      env,
      stdio: inherit ? 'inherit' : ['ignore', 'pipe', 'pipe'],
    })
    children.add(child)
    let text = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk
      })
    }
    const end = (code: number) => {
      children.delete(child)
      resolve({ code, text })
    }
    child.on('error', (error) => {
      text += String(error)
      end(127)
    })
    child.on('close', (code) => end(code ?? 1))
  })
}

async function runSteps(children: Children): Promise<Count> {
  const results = await Promise.all(steps().map(async (step) => ({ step, ...(await run(children, step)) })))
  for (const { step, code, text } of results) {
    console.log(`${code === 0 ? '✓' : '✗'} ${step.name}`)
    if (code !== 0) console.log(text.trimEnd())
  }
  const passed = results.filter(({ code }) => code === 0).length
  return { passed, failed: results.length - passed, skipped: [] }
}

async function runTests(children: Children, args: readonly string[]): Promise<Count> {
  const folder = await mkdtemp(join(tmpdir(), 'gmsa-tally-'))
  const file = join(folder, 'tally.json')
  try {
    const step = { name: 'tests', command: bin('vitest'), args: ['run', ...args] }
    const { code } = await run(children, step, true, { ...process.env, GMSA_TALLY: file })
    const count: Count = existsSync(file)
      ? JSON.parse(await readFile(file, 'utf8'))
      : { passed: 0, failed: 0, skipped: [] }
    // Vitest found fault with something that is not a test: no test at all, a missing file, a crash.
    if (code !== 0 && count.failed === 0) count.failed = 1
    return count
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Counts a skip that gives no reason as failed, and names each. */
function judgeSkips(count: Count): Count {
  const silent = count.skipped.filter(({ reason }) => !reason)
  for (const { name, reason } of count.skipped) {
    console.log(reason ? `skipped: ${name}: ${reason}` : `failed: ${name}: skipped without a reason`)
  }
  return {
    passed: count.passed,
    failed: count.failed + silent.length,
    skipped: count.skipped.filter(({ reason }) => reason),
  }
}

/**
 * Runs the steps and then vitest with `args`, lists every skip with its reason, ends the output with the one line
 * `N passed, N failed, N skipped`, and sets the exit code.
 */
export async function holdAll(args: readonly string[]): Promise<void> {
  const children: Children = new Set()
  endWith(children)
  const held = await runSteps(children)
  const { passed, failed, skipped } = judgeSkips(await runTests(children, args))
  process.exitCode = held.failed + failed === 0 ? 0 : 1
  console.log(`${held.passed + passed} passed, ${held.failed + failed} failed, ${skipped.length} skipped`)
}
