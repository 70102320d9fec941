/**
 * The part of npm run bench that `-- --agent` runs alone: what the agent costs at rest, with one account and with fifty,
 * and how long one update takes. It is started with the flags of the systemd unit, from compiled sources, against the
 * real service in this process. Never a gate.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { agentFlags, install } from '../test/fakes/compiled.ts'
import { makeRig, type Rig } from '../test/fakes/rig.ts'
import lab from '../test/vectors/samba-dc-sample.json' with { type: 'json' }
import { cpuOf, ENVIRONMENT, isLinux, memoryOf, NODE_FLAGS } from './processes.ts'
import { median, spread, verdict } from './table.ts'

const ACCOUNTS = [1, 50]
/** In ms: until garbage of the start is gone, and how long the processor time is measured. */
const SETTLE = 10_000
const WATCH = 60_000
const HOUR = 3_600_000
/** How often all files are brought up to date before memory is measured again, and how far apart, in ms. */
const ROUNDS = 40
const ROUND = 500
const UPDATES = 5
/** In MiB, and of one account in ms. */
const AIMS = [60, 70]
const UPDATE_AIM = 600

export async function benchAgent(): Promise<void> {
  if (!isLinux) return console.log('Memory comes from /proc: not measured on this system.')
  const directory = await mkdtemp(join(tmpdir(), 'gmsa-bench-agent-'))
  try {
    const main = await install(directory)
    for (const [index, accounts] of ACCOUNTS.entries()) {
      await using rig = await makeService(accounts)
      const config = await writeConfig(rig, accounts)
      const { rest, used, cpu } = await measure([...agentFlags(), main, 'agent', '--config', config])
      const aim = AIMS[index] ?? 0
      const updates = await update([...NODE_FLAGS, main, 'agent', '--once', '--config', config])
      console.log(
        [
          `agent, ${accounts} accounts: ${rest.toFixed(1)} MiB at rest (aim ${aim}: ${verdict(rest, aim)})`,
          `${used.toFixed(1)} MiB after ${ROUNDS} updates of all`,
          `${cpu.toFixed(1)} s of CPU in an idle hour`,
          `--once ${spread(updates)} ms${accounts > 1 ? '' : ` (aim ${UPDATE_AIM}: ${verdict(median(updates), UPDATE_AIM)})`}`,
        ].join('; '),
      )
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

const namesOf = (accounts: number) => Array.from({ length: accounts }, (_, number) => `account-${number}`)

function makeService(accounts: number): Promise<Rig> {
  // Far from its change, so that nothing is due while we look.
  const sample = lab.samples.find(({ label }) => label === 'an hour after the roll')
  if (!sample) throw new Error('no sample')
  const blob = Buffer.from(sample.managedPassword.raw, 'hex').toString('base64')
  const record = JSON.stringify({ managedPassword: blob, samAccountName: 'web01$', domain: 'ad.test', kvno: 4 })
  const names = namesOf(accounts)
  return makeRig({
    secrets: Object.fromEntries(names.map((name) => [`${name}.json`, record])),
    clients: [{ match: { commonName: '*' }, allow: ['keytab'], accounts: ['*'] }],
    config: { accounts: new Map(names.map((name) => [name, { provider: 'local', options: {} }])) },
  })
}

async function writeConfig(rig: Rig, accounts: number): Promise<string> {
  const folder = join(rig.directory, 'agent')
  await mkdir(folder)
  const config = join(folder, 'agent.yaml')
  const keep = namesOf(accounts).map((name) => `  ${name}: { acceptorKeytab: { file: ${name}.keytab } }`)
  const { certificate, key } = rig.files.client
  const tls = `tls: { certificate: ${certificate}, key: ${key}, ca: ${rig.files.ca} }`
  const head = [`servers: ['https://localhost:${rig.service.port}']`, tls, 'status: { port: 0 }', 'accounts:']
  await writeFile(config, [...head, ...keep].join('\n'))
  return config
}

const startNode = (args: readonly string[]): ChildProcess =>
  spawn(process.execPath, args, { env: ENVIRONMENT, stdio: ['ignore', 'pipe', 'inherit'] })

interface Measured {
  /** In MiB. */
  readonly rest: number
  readonly used: number
  /** In seconds. */
  readonly cpu: number
}

async function measure(args: readonly string[]): Promise<Measured> {
  const child = startNode(args)
  const { stdout, pid = 0 } = child
  try {
    const { promise: ready, resolve } = Promise.withResolvers<void>()
    if (stdout) createInterface({ input: stdout }).on('line', (line) => line.includes(UP_TO_DATE) && resolve())
    await ready
    await pause(SETTLE)
    const before = cpuOf(pid)
    await pause(WATCH)
    const cpu = ((cpuOf(pid) - before) / 1e6) * (HOUR / WATCH)
    const rest = memoryOf(pid)
    for (let round = 0; round < ROUNDS; round++) {
      child.kill('SIGHUP')
      await pause(ROUND)
    }
    await pause(SETTLE)
    return { rest, used: memoryOf(pid), cpu }
  } finally {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
}

const UP_TO_DATE = 'every file is up to date'

/** From the start of the process to its end, in ms, of each run. */
async function update(args: readonly string[]): Promise<number[]> {
  const times: number[] = []
  while (times.length < UPDATES) {
    const begin = performance.now()
    const child = startNode(args)
    child.stdout?.resume()
    const [code] = await once(child, 'exit')
    if (code !== 0) throw new Error(`agent --once ended with ${code}`)
    times.push(performance.now() - begin)
  }
  return times
}
