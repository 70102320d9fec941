/**
 * The part of npm run bench that `-- --agent` runs alone: what the agent costs at rest, with one account and with fifty.
 * It is started as deploy/ has it, from compiled sources, against the real service in this process. Never a gate.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { makeRig } from '../test/fakes/rig.ts'
import lab from '../test/vectors/samba-dc-sample.json' with { type: 'json' }
import { build } from './prepare.ts'
import { cpuOf, ENVIRONMENT, isLinux, memoryOf, NODE_FLAGS } from './processes.ts'

const ACCOUNTS = [1, 50]
/** In ms: until garbage of the start is gone, and how long the processor time is measured. */
const SETTLE = 10_000
const WATCH = 60_000
const HOUR = 3_600_000
/** In MiB. */
const AIMS = [60, 70]

export async function benchAgent(): Promise<void> {
  if (!isLinux) return console.log('Memory comes from /proc: not measured on this system.')
  const directory = await mkdtemp(join(tmpdir(), 'gmsa-bench-agent-'))
  try {
    await build(directory)
    for (const [index, accounts] of ACCOUNTS.entries()) {
      const { memory, cpu } = await measure(directory, accounts)
      const aim = AIMS[index] ?? 0
      const verdict = memory <= aim ? 'met' : 'missed'
      console.log(
        `agent, ${accounts} accounts: ${memory.toFixed(1)} MiB at rest (aim ${aim}: ${verdict}), ${cpu.toFixed(1)} s of CPU in an idle hour`,
      )
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

async function measure(directory: string, accounts: number): Promise<{ memory: number; cpu: number }> {
  const names = Array.from({ length: accounts }, (_, number) => `account-${number}`)
  // Far from its change, so that nothing is due while we look.
  const sample = lab.samples.find(({ label }) => label === 'an hour after the roll')
  if (!sample) throw new Error('no sample')
  const blob = Buffer.from(sample.managedPassword.raw, 'hex').toString('base64')
  const record = JSON.stringify({ managedPassword: blob, samAccountName: 'web01$', domain: 'ad.test', kvno: 4 })
  await using rig = await makeRig({
    secrets: Object.fromEntries(names.map((name) => [`${name}.json`, record])),
    clients: [{ match: { commonName: '*' }, allow: ['keytab'], accounts: ['*'] }],
    config: { accounts: new Map(names.map((name) => [name, { provider: 'local', options: {} }])) },
  })
  const folder = join(rig.directory, 'agent')
  await mkdir(folder)
  const config = join(folder, 'agent.yaml')
  const keep = names.map((name) => `  ${name}: { acceptorKeytab: { file: ${name}.keytab } }`)
  const { certificate, key } = rig.files.client
  const tls = `tls: { certificate: ${certificate}, key: ${key}, ca: ${rig.files.ca} }`
  const head = [`servers: ['https://localhost:${rig.service.port}']`, tls, 'status: { port: 0 }', 'accounts:']
  await writeFile(config, [...head, ...keep].join('\n'))
  const main = join(directory, 'dist/cli/main.js')
  const child = spawn(process.execPath, [...NODE_FLAGS, main, 'agent', '--config', config], {
    env: ENVIRONMENT,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    const { promise: ready, resolve } = Promise.withResolvers<void>()
    createInterface({ input: child.stdout }).on(
      'line',
      (line) => line.includes('every file is up to date') && resolve(),
    )
    await ready
    await pause(SETTLE)
    const pid = child.pid ?? 0
    const before = cpuOf(pid)
    await pause(WATCH)
    return { memory: memoryOf(pid), cpu: ((cpuOf(pid) - before) / 1e6) * (HOUR / WATCH) }
  } finally {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
}
