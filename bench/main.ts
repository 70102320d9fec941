/**
 * npm run bench [-- --quick | -- --keys | -- --agent]: what the service costs beside a server without framework (`raw`) and one with the
 * framework alone (`lean`). Prints a table; docs/performance.md tells what it means. Never a gate.
 */
import { cpus, totalmem } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { benchAgent } from './agent.ts'
import type { Access, Job } from './client.ts'
import { benchKeys } from './derive.ts'
import { type Bench, machine, prepare } from './prepare.ts'
import { isLinux, isPinned, type LoadClient, type Server, startClient, startServer, type Target } from './processes.ts'
import { median, type Row, ratios, table, verdict } from './table.ts'

const FULL = { repetitions: 5, new: 1500, kept: 30_000, warmNew: 400, warmKept: 6_000, soaks: 2, soak: 10_000 }
const QUICK = { repetitions: 3, new: 400, kept: 10_000, warmNew: 200, warmKept: 3_000, soaks: 1, soak: 2_000 }
type Plan = typeof FULL

const CONNECTIONS = 4
/** In ms. A job that takes longer ends early and counts what it has. */
const JOB_LIMIT = 120_000
/** In ms: what a server does after its first answer is over then. */
const SETTLE = 1_000
/** In MiB. Growth within this is none: it comes and goes between two looks. */
const FLAT = 5

const AIMS = { newOverLean: 1.15, keptOverRaw: 1.45, start: 250, rest: 95, restStretch: 80, loaded: 125 } as const

type Measure = 'new' | 'kept' | 'start' | 'startCpu' | 'rest' | 'soaked' | 'soakedTwice'

/** Everything measured so far. */
class Findings {
  readonly #samples = new Map<Measure, Map<string, number[]>>()
  readonly #failures = new Map<Measure, string>()

  add(measure: Measure, target: string, value: number): void {
    const samples = this.of(measure)
    samples.set(target, [...(samples.get(target) ?? []), value])
    this.#samples.set(measure, samples)
  }

  fail(measure: Measure, what: string): void {
    this.#failures.set(measure, what)
  }

  of(measure: Measure): Map<string, number[]> {
    return this.#samples.get(measure) ?? new Map()
  }

  failed(measure: Measure) {
    const what = this.#failures.get(measure)
    return what === undefined ? {} : { failed: what }
  }
}

interface Session {
  readonly bench: Bench
  readonly client: LoadClient
  readonly plan: Plan
  readonly findings: Findings
}

/** Puts one job on a server and answers with its processor time for each request, in microseconds. */
async function load(
  { client, bench, findings }: Session,
  server: Server,
  target: Target,
  measure: Measure,
  work: Pick<Job, 'kind' | 'count'>,
): Promise<number> {
  const access: Access = { ...bench.access, port: server.port }
  const before = server.cpu()
  const result = await client.run({ ...access, ...work, connections: CONNECTIONS, limit: JOB_LIMIT })
  const spent = server.cpu() - before
  server.emptyLog()
  if (result.failed > 0) findings.fail(measure, `${target.name}: ${result.failed} failed: ${result.problem}`)
  else if (result.good < work.count) findings.fail(measure, `${target.name}: ${result.good} of ${work.count} in time`)
  return spent / result.good
}

/** One target, freshly started: start-up, memory at rest, warm-up, then both kinds of requests. */
async function measureOnce(session: Session, target: Target): Promise<void> {
  const { bench, plan, findings } = session
  const server = await startServer(target, bench.access, bench.logFile)
  try {
    findings.add('start', target.name, server.started)
    findings.add('startCpu', target.name, server.startedCpu)
    await pause(SETTLE)
    findings.add('rest', target.name, server.memory())
    await load(session, server, target, 'new', { kind: 'new', count: plan.warmNew })
    await load(session, server, target, 'kept', { kind: 'kept', count: plan.warmKept })
    findings.add('new', target.name, await load(session, server, target, 'new', { kind: 'new', count: plan.new }))
    findings.add('kept', target.name, await load(session, server, target, 'kept', { kind: 'kept', count: plan.kept }))
  } finally {
    await server.stop()
  }
}

/** Memory under new connections, on a server that has seen nothing else. */
async function soak(session: Session, target: Target): Promise<void> {
  const { bench, plan, findings } = session
  const server = await startServer(target, bench.access, bench.logFile)
  try {
    for (const measure of ['soaked', 'soakedTwice'] as const) {
      await load(session, server, target, measure, { kind: 'new', count: plan.soak })
      findings.add(measure, target.name, server.memory())
    }
  } finally {
    await server.stop()
  }
}

/** The order moves on with each repetition, so that no target is always measured in the wake of the same other. */
async function eachInTurn(targets: readonly Target[], times: number, visit: (target: Target) => Promise<void>) {
  for (let repetition = 0; repetition < times; repetition++) {
    for (let index = 0; index < targets.length; index++) {
      const target = targets[(index + repetition) % targets.length]
      if (target) await visit(target)
    }
    process.stderr.write('.')
  }
}

function rowsOf(findings: Findings, plan: Plan): Row[] {
  const middle = (measure: Measure) => median(findings.of(measure).get('product') ?? [])
  const middleRatio = (measure: Measure, by: string) => median(ratios(findings.of(measure), 'product', by))
  const row = (measure: Measure, title: string, aim = '', digits = 0): Row => {
    return { title, samples: findings.of(measure), aim, digits, ...findings.failed(measure) }
  }
  const over = (measure: Measure, by: string, limit: number) =>
    `≤ ${limit} × ${by}: ${verdict(middleRatio(measure, by), limit)}`
  const atMost = (measure: Measure, limit: number, unit: string) =>
    `≤ ${limit} ${unit}: ${verdict(middle(measure), limit)}`
  const growth = middle('soakedTwice') - middle('soaked')
  const count = (soaks: number) => (soaks * plan.soak).toLocaleString('en')
  return [
    row('new', 'new connection, µs of CPU', over('new', 'lean', AIMS.newOverLean)),
    row('kept', 'keep-alive request, µs of CPU', over('kept', 'raw', AIMS.keptOverRaw), 1),
    row('start', 'start to first answer, ms', atMost('start', AIMS.start, 'ms')),
    row('startCpu', 'the same, ms of CPU'),
    row(
      'rest',
      'memory at rest, MiB',
      `${atMost('rest', AIMS.rest, 'MiB')}; stretch ${AIMS.restStretch}: ${verdict(middle('rest'), AIMS.restStretch)}`,
    ),
    row('soaked', `after ${count(1)} new connections, MiB`, atMost('soaked', AIMS.loaded, 'MiB')),
    row('soakedTwice', `after ${count(2)}, MiB`, `flat (+${FLAT} MiB at most): ${verdict(growth, FLAT)}`),
  ]
}

async function main(): Promise<void> {
  const flag = { type: 'boolean', default: false } as const
  const { values } = parseArgs({ options: { quick: flag, keys: flag, agent: flag } })
  const plan = values.quick ? QUICK : FULL
  console.log(
    `Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 1e9)} GB`,
  )
  if (values.keys) return benchKeys()
  if (values.agent) return benchAgent()
  if (!isLinux) console.log('Processor time and memory come from /proc: on this system only start-up is measured.')
  if (!isPinned) console.log('Not pinned to cores: that takes Linux, two cores and taskset.')
  const bench = await prepare()
  using client = startClient()
  const session = { bench, client, plan, findings: new Findings() }
  const before = await machine()
  await eachInTurn(bench.targets, plan.repetitions, (target) => measureOnce(session, target))
  if (isLinux) await eachInTurn(bench.targets, plan.soaks, (target) => soak(session, target))
  process.stderr.write('\n')
  console.log(`${before} before, ${await machine()} after`)
  console.log(
    `min/median/max of ${plan.repetitions} repetitions (last two rows: ${plan.soaks}); ratios are of the same repetition\n`,
  )
  console.log(table(rowsOf(session.findings, plan)))
  console.log('\nDerivation of keys:\n')
  await benchKeys()
  console.log('\nThe agent:\n')
  await benchAgent()
}

await main()
