import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { aesSha1StringToKey } from '../../src/crypto/string-to-key.ts'
import { utf16ToUtf8 } from '../../src/gmsa/managed-password.ts'
import { parseCcache } from '../../src/kerberos/ccache.ts'
import { type AgentRig, makeAgentRig } from '../fakes/agent-rig.ts'
import { ROOT } from '../fakes/cli.ts'
import { agentFlags, install } from '../fakes/compiled.ts'
import { type FakeKdc, honestKdc, startKdc } from '../fakes/kdc.ts'
import { eventually } from '../server/wire.ts'

/** Tells in the file named by LOADED, at SIGUSR2, what the process has loaded. */
const RECORDER = `
import { writeFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
const urls = []
registerHooks({ load(url, context, next) { urls.push(url); return next(url, context) } })
process.on('SIGUSR2', () => {
  const { moduleLoadList: internals } = process
  writeFileSync(process.env.LOADED, JSON.stringify({ urls, internals, webAssembly: typeof WebAssembly }))
})`

interface Loaded {
  readonly urls: readonly string[]
  readonly internals: readonly string[]
  readonly webAssembly: string
}

let directory: string
let main: string
let at: AgentRig
let kdc: FakeKdc
let agent: ChildProcess
let output = ''
let address: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'gmsa-agent-at-rest-'))
  main = await install(directory)
  at = await makeAgentRig()
  kdc = await startHonestKdc()
  const krb5Config = join(directory, 'krb5.conf')
  await writeFile(krb5Config, `[realms]\n AD.TEST = {\n  kdc = ${kdc.kdc.host}:${kdc.kdc.port}\n }\n`)
  await writeFile(join(directory, 'recorder.mjs'), RECORDER)
  const recorder = ['--import', pathToFileURL(join(directory, 'recorder.mjs')).href]
  agent = spawn(
    process.execPath,
    [...agentFlags(), '--trace-gc', ...recorder, main, 'agent', '--config', await config()],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { PATH: process.env['PATH'], LOADED: join(directory, 'loaded.json'), KRB5_CONFIG: krb5Config },
    },
  )
  agent.stdout?.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  await eventually(() => output.includes('every file is up to date'), 'the files', 30_000)
  address = `http://127.0.0.1:${/"port":(\d+)/.exec(output)?.[1]}`
})
afterAll(async () => {
  agent?.kill('SIGKILL')
  await at?.[Symbol.asyncDispose]()
  await kdc?.[Symbol.asyncDispose]()
  await rm(directory, { recursive: true, force: true })
})

/** By this machine's clock, as the agent is. */
async function startHonestKdc(): Promise<FakeKdc> {
  const salt = 'AD.TESThostweb01.ad.test'
  const password = utf16ToUtf8(at.directory.passwordOf(at.directory.generationAt(at.clock.now())))
  const key = await aesSha1StringToKey(32, password, Buffer.from(salt))
  return startKdc(honestKdc({ now: Date.now, key: () => key, salt }))
}

async function config(): Promise<string> {
  const { certificate, key } = at.rig.files.client
  const text = [
    `servers: ['https://localhost:${at.rig.service.port}']`,
    `tls: { certificate: ${certificate}, key: ${key}, ca: ${at.rig.files.ca} }`,
    'status: { port: 0 }',
    'accounts:',
    `  web01: { acceptorKeytab: { file: ${at.path('web01')} }, ccache: { file: ${at.path('krb5cc')} } }`,
  ]
  const file = join(directory, 'agent.yaml')
  await writeFile(file, text.join('\n'))
  return file
}

async function loaded(): Promise<Loaded> {
  const read = async () => JSON.parse(await readFile(join(directory, 'loaded.json'), 'utf8'))
  agent.kill('SIGUSR2')
  await eventually(() => read().then(Boolean, () => false), 'what is loaded')
  return read()
}

describe('the agent, compiled, as its systemd unit starts it', () => {
  test('keeps keytab and ticket', async () => {
    expect(await at.keytab('web01')).toHaveLength(4)
    const { credentials } = parseCcache(await readFile(at.path('krb5cc')))
    expect(credentials[0]?.endTime).toBeGreaterThan(Date.now() / 1000 + 5 * 3600)
  })

  test('holds four packages and what they need, and of our floors none of the service', async () => {
    const { urls } = await loaded()
    const { dependencies }: { dependencies: object } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'))
    const held = Object.keys(dependencies).filter((name) => urls.some((url) => url.includes(`/node_modules/${name}/`)))
    expect(held).toEqual(['ajv', 'commander', 'pino', 'yaml'])
    const own = urls.filter((url) => !url.includes('/node_modules/'))
    const floors = new Set(own.flatMap((url) => /\/dist\/(\w+)\//.exec(url)?.[1] ?? []))
    expect([...floors].toSorted()).toEqual(['agent', 'base', 'cli', 'crypto', 'gmsa', 'kerberos'])
  })

  test("does without Node's undici, and without WebAssembly", async () => {
    const { internals, webAssembly } = await loaded()
    expect(internals.filter((name) => /undici/.test(name))).toEqual([])
    expect(internals).toContain('NativeModule https')
    expect(webAssembly).toBe('undefined')
  })

  test.skipIf(process.platform !== 'linux')('has no memory that is executed but what files hold', async () => {
    const maps = (await readFile(`/proc/${agent.pid}/maps`, 'latin1')).trimEnd().split('\n')
    const executable = maps.map((line) => line.split(/\s+/)).filter(([, rights = '']) => rights.includes('x'))
    expect(executable.map(([, rights]) => rights)).not.toContain('rwxp')
    expect(executable.filter(([, , , , , path = '']) => !/^(\/|\[v(dso|syscall)\]$)/.test(path))).toEqual([])
  })

  test('gives back the memory of its start, once', async () => {
    const forced = () => output.match(/Mark-Compact .* testing; GC/g)?.length ?? 0
    await eventually(() => forced() > 0, 'a collection', 15_000)
  })

  test('is seen by `agent status` under the same flags', async () => {
    const child = spawn(process.execPath, [main, 'agent', 'status', '--url', address], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { NODE_OPTIONS: agentFlags().join(' ') },
    })
    let shown = ''
    child.stdout.on('data', (chunk: Buffer) => {
      shown += chunk.toString()
    })
    expect(await once(child, 'close')).toEqual([0, null])
    expect(shown).toMatch(/^web01 +acceptor +ready /m)
  })
})
