import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { parseKeytab } from '../../src/kerberos/keytab.ts'
import { type AgentRig, kvnosOf, makeAgentRig, namesIn } from '../fakes/agent-rig.ts'
import { CLI, type CliResult, ROOT, runCli } from '../fakes/cli.ts'
import { blocksOf, commandsOf, stepsOf } from '../house/markdown.ts'
import { text } from '../house/source.ts'
import { eventually } from '../server/wire.ts'

let at: AgentRig
const children: ChildProcess[] = []
beforeEach(async () => {
  // The command goes by this machine's clock: so does the service, nearly.
  at = await makeAgentRig()
})
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  await at[Symbol.asyncDispose]()
})

const address = () => `https://localhost:${at.rig.service.port}`
const identity = () => {
  const { certificate, key } = at.rig.files.client
  return ['--server', address(), '--cert', certificate, '--key', key, '--ca', at.rig.files.ca]
}
const acceptor = () => ['--account', 'web01', '--acceptor-keytab', at.path('acceptor')]

/** A configuration file; `accounts` as it is written in YAML. */
async function writeConfig(accounts: string, more = ''): Promise<string> {
  const { certificate, key } = at.rig.files.client
  const text = [
    `servers: ['${address()}']`,
    `tls: { certificate: ${certificate}, key: ${key}, ca: ${at.rig.files.ca} }`,
    more,
    'accounts:',
    accounts,
  ]
  const path = join(at.rig.directory, 'agent.yaml')
  await writeFile(path, text.join('\n'))
  return path
}

interface Running {
  readonly child: ChildProcess
  readonly lines: Record<string, unknown>[]
  /** What came on standard error. */
  readonly errors: string[]
  line(message: string): Promise<Record<string, unknown>>
}

/** Starts the real command; it runs on. */
function start(args: readonly string[], env: Record<string, string> = {}): Running {
  const child = spawn(process.execPath, [...CLI, 'agent', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'] ?? '', ...env },
  })
  children.push(child)
  const lines: Record<string, unknown>[] = []
  const errors: string[] = []
  createInterface({ input: child.stderr }).on('line', (text) => errors.push(text))
  createInterface({ input: child.stdout }).on('line', (text) => lines.push(JSON.parse(text)))
  const find = (message: string) => lines.find(({ msg }) => msg === message)
  return {
    child,
    lines,
    errors,
    async line(message) {
      await eventually(() => find(message) !== undefined, message, 15_000)
      return find(message) ?? {}
    },
  }
}

const agent = (...args: string[]): Promise<CliResult> => runCli(['agent', ...args])

describe('agent --once', () => {
  test('O3: one account by flags: both keytabs, and exit code 0', async () => {
    const { code, stdout, stderr } = await agent(
      ...identity(),
      ...acceptor(),
      '--initiator-keytab',
      at.path('initiator'),
      '--once',
    )
    expect(stderr).toBe('')
    expect(stdout).toBe(
      `web01 acceptor: ${at.path('acceptor')}: 4 entries, kvno 9\nweb01 initiator: ${at.path('initiator')}: 2 entries, kvno 9\n`,
    )
    expect(code).toBe(0)
    expect((await stat(at.path('acceptor'))).mode & 0o777).toBe(0o600)
    expect(kvnosOf(await at.keytab('initiator'))).toEqual([9])
  })

  test('the command of its page prints what the page shows', async () => {
    const page = text('docs/agent.md')
    const [step] = stepsOf(blocksOf(page)[0]?.text ?? '')
    const [command] = commandsOf(page, ['gmsa-account-provider'])
    const { certificate, key } = at.rig.files.client
    const here: Record<string, string> = { 'tls.crt': certificate, 'tls.key': key, 'ca.crt': at.rig.files.ca }
    here['https://gmsa.example.com:8443'] = address()
    here['/etc/apache2/web01.keytab'] = at.path('acceptor')
    const { stdout, stderr } = await runCli((command?.words ?? []).slice(1).map((word) => here[word] ?? word))
    expect(stderr).toBe('')
    expect(step?.follows).toContain('/etc/apache2/web01.keytab')
    expect(stdout).toBe(step?.follows.replace('/etc/apache2/web01.keytab', at.path('acceptor')))
  })

  test('O3: paths are relative to where it is started', async () => {
    const { code, stdout } = await runCli(
      ['agent', ...identity(), '--account', 'web01', '--acceptor-keytab', 'here', '--once'],
      { cwd: at.folder },
    )
    expect(code).toBe(0)
    expect(stdout).toMatch(/^web01 acceptor: .*\/here: 4 entries, kvno 9\n$/)
    expect(await namesIn(at.folder)).toEqual(['here'])
  })

  test.each([
    ['last', (command: string[]) => [...command]],
    ['in the middle', (command: string[]) => [...command, '--once']],
  ])('H1: --on-change takes the command with its own dashes, %s', async (place, args) => {
    const command = ['sh', '-c', `echo "$0 $1 $GMSA_KVNO" > '${at.path('told')}'`, '-x', '--yes']
    const flags = place === 'last' ? ['--once', '--on-change'] : ['--on-change']
    const { code, stderr } = await agent(...identity(), ...acceptor(), ...flags, ...args(command))
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(await readFile(at.path('told'), 'utf8')).toBe('-x --yes 9\n')
  })

  test('O3: exit code 1 where the service does not answer, with the next step', async () => {
    await at.rig.service.stop()
    const { code, stderr } = await agent(...identity(), ...acceptor(), '--once')
    expect(code).toBe(1)
    expect(stderr).toMatch(/^gmsa-account-provider: error: web01 acceptor: localhost:\d+: ECONNREFUSED\n/)
    const unknown = await agent(
      ...identity().with(1, 'https://localhost:1'),
      '--account',
      'ghost',
      '--acceptor-keytab',
      at.path('x'),
      '--once',
    )
    expect(unknown.code).toBe(1)
  })

  test('O4: a wrong account is left out alone, with line and column, and the exit code is 78', async () => {
    const config = await writeConfig(
      [
        '  web01: { acceptorKeytab: { file: agent/web01 } }',
        '  sql01: { acceptorKeytab: { file: agent/sql01, mod: "0640" }, initiatorKeytab: {} }',
        '  Bad: { acceptorKeytab: { file: agent/bad } }',
      ].join('\n'),
    )
    const { code, stdout, stderr } = await agent('--config', config, '--once')
    expect(code).toBe(78)
    expect(stdout).toContain(`web01 acceptor: ${at.path('web01')}: 4 entries`)
    expect(await namesIn(at.folder)).toEqual(['web01'])
    expect(stderr).toContain(`${config}:6:49: accounts.sql01.acceptorKeytab.mod: unknown option, did you mean mode?`)
    expect(stderr).toContain('accounts.sql01.initiatorKeytab.file: required: expected a path')
    expect(stderr).toContain('accounts.Bad: expected an account name')
  })

  test.each([
    ['no server', (all: string[]) => all.slice(2), /servers: expected a list of 1 or more/],
    [
      'a server without https',
      (all: string[]) => all.with(1, 'http://localhost:1'),
      /servers\[0\]: expected an address such as https:/,
    ],
    ['no key', (all: string[]) => all.toSpliced(4, 2), /tls\.key: required/],
  ])('O4: %s: exit code 78, and what was expected', async (_what, change, said) => {
    const { code, stderr } = await agent(...change(identity()), ...acceptor(), '--once')
    expect(code).toBe(78)
    expect(stderr).toMatch(said)
  })

  test('O4: all problems at once, no account that could be kept: exit code 78', async () => {
    const config = await writeConfig(
      '  web01: { acceptorKeytab: { file: x, onChange: { signal: HUP } } }',
      'timeout: soon\nwiat: 5m',
    )
    const { code, stderr } = await agent('--config', config)
    expect(code).toBe(78)
    expect(stderr).toContain('the configuration has 3 problems')
    expect(stderr).toContain('timeout: expected a duration')
    expect(stderr).toContain('wiat: unknown option, did you mean wait?')
    expect(stderr).toContain('accounts.web01.acceptorKeytab.onChange: expected either command, or signal and pidFile')
  })

  test('O4: neither a file nor flags: the usual place is named', async () => {
    const { code, stderr } = await agent('--once')
    expect(code).toBe(78)
    expect(stderr).toContain('/etc/gmsa-account-provider/agent.yaml: no such file')
    const both = await agent('--config', 'x', '--account', 'web01')
    expect(both.code).toBe(78)
  })
})

describe('agent, running', () => {
  const status = 'status: { port: 0 }'

  test('keeps the files, tells of itself, and ends with 0 on SIGTERM', async () => {
    const config = await writeConfig('  web01: { acceptorKeytab: { file: agent/web01 } }', status)
    const running = start(['--config', config])
    const { status: listening } = await running.line('keeping files')
    await running.line('every file is up to date')
    expect(parseKeytab(await readFile(at.path('web01')))).toHaveLength(4)
    const url = `http://127.0.0.1:${(listening as { port: number }).port}`
    const shown = await agent('status', '--url', url)
    expect(shown.code).toBe(0)
    expect(shown.stdout).toMatch(
      /^account +kind +state +kvno +keys +last success +due +file\nweb01 +acceptor +ready +9 +4 /,
    )
    expect(JSON.parse((await agent('status', '--url', url, '--json')).stdout)).toMatchObject({ ready: true })
    const ended = once(running.child, 'exit')
    running.child.kill('SIGTERM')
    expect(await ended).toEqual([0, null])
    const after = await agent('status', '--url', url)
    expect(after.code).toBe(1)
    expect(after.stderr).toMatch(/error: 127\.0\.0\.1:\d+: no agent answers\n.*hint: /)
  })

  test.each(['SIGHUP', 'SIGUSR1'] as const)(
    'R5: %s brings the files up to date within two seconds, and opens no debugger',
    async (signal) => {
      const config = await writeConfig('  web01: { acceptorKeytab: { file: agent/web01 } }', status)
      const running = start(['--config', config])
      await running.line('every file is up to date')
      await rm(at.path('web01'))
      const began = performance.now()
      running.child.kill(signal)
      await eventually(async () => (await namesIn(at.folder)).includes('web01'), 'the file', 10_000)
      expect(performance.now() - began).toBeLessThan(2_000)
      expect(running.child.exitCode).toBeNull()
      expect(running.errors).toEqual([])
    },
  )

  test('O3: status is 1 while a file is not right, and says why', async () => {
    const config = await writeConfig(
      '  web01: { acceptorKeytab: { file: agent/web01 } }\n  ghost: { acceptorKeytab: { file: agent/ghost } }\n  bad: {}',
      status,
    )
    const running = start(['--config', config])
    const { status: listening } = await running.line('keeping files')
    await running.line('not up to date; the file stays as it is')
    const { code, stdout } = await agent('status', '--url', `http://127.0.0.1:${(listening as { port: number }).port}`)
    expect(code).toBe(1)
    expect(stdout).toMatch(/^ghost +acceptor +not ready /m)
    expect(stdout).toMatch(/^bad +- +left out/m)
    expect(stdout).toMatch(/^ghost acceptor: not up to date since the start \(ACCOUNT_NOT_FOUND: /m)
    expect(stdout).toMatch(/agent\.yaml:\d+:\d+: accounts\.bad: expected at least one of /)
  })

  test('tells systemd once every file is right', async () => {
    const config = await writeConfig('  web01: { acceptorKeytab: { file: agent/web01 } }', status)
    const bin = join(at.rig.directory, 'bin')
    await mkdir(bin)
    const script = `#!/bin/sh\necho "$NOTIFY_SOCKET $*" > '${at.path('notified')}'\n`
    await writeFile(join(bin, 'systemd-notify'), script, { mode: 0o755 })
    start(['--config', config], { PATH: `${bin}:${process.env['PATH']}`, NOTIFY_SOCKET: '/run/notify' })
    await eventually(async () => (await namesIn(at.folder)).includes('notified'), 'the message', 15_000)
    expect(await readFile(at.path('notified'), 'utf8')).toBe('/run/notify --ready\n')
    expect(await namesIn(at.folder)).toContain('web01')
  })

  test('S1: shows no key in its log or its arguments, at any level', async () => {
    const config = await writeConfig(
      '  web01: { acceptorKeytab: { file: agent/web01 }, initiatorKeytab: { file: agent/own } }',
      `${status}\nlog: { level: trace }`,
    )
    const running = start(['--config', config])
    await running.line('every file is up to date')
    const shown = JSON.stringify(running.lines) + running.child.spawnargs.join(' ')
    for (const { key } of [...(await at.keytab('web01')), ...(await at.keytab('own'))]) {
      for (const form of ['hex', 'base64'] as const)
        expect(shown).not.toContain(Buffer.from(key.reveal()).toString(form))
    }
  })

  test.each([
    ['fails', 'exit 3', /ended with code 3$/],
    ['does not end', 'sleep 1000', /not done within 1 s$/],
  ])('S1: shows nothing of what a hook that %s has printed, keys among it', async (_what, end, problem) => {
    const hex = `od -An -v -tx1 "$GMSA_FILE" | tr -d ' \\n'`
    const script = `${hex} > '${at.path('printed')}'; ${hex}; ${hex} >&2; ${end}`
    const hook = JSON.stringify({ command: ['sh', '-c', script], timeout: '1s' })
    const config = await writeConfig(
      `  web01: { acceptorKeytab: { file: agent/web01, onChange: ${hook} } }`,
      `${status}\nlog: { level: trace }`,
    )
    const running = start(['--config', config])
    const { status: listening } = await running.line('keeping files')
    const { problem: told } = await running.line('change could not be told; the file stays')
    expect(told).toMatch(problem)
    const page = await fetch(`http://127.0.0.1:${(listening as { port: number }).port}/status`)
    const shown = [JSON.stringify(running.lines), running.errors.join('\n'), await page.text()].join('\n')
    const printed = await readFile(at.path('printed'), 'utf8')
    for (const { key } of await at.keytab('web01')) {
      const text = Buffer.from(key.reveal()).toString('hex')
      expect(printed).toContain(text)
      expect(shown).not.toContain(text)
    }
  })
})

test('the command loads nothing of the service: neither its floors nor its libraries', () => {
  const program = `
    import { registerHooks } from 'node:module'
    const seen = []
    registerHooks({ load(url, context, next) { seen.push(url); return next(url, context) } })
    await import('${join(ROOT, 'src/cli/commands/agent.ts')}')
    const inside = process.moduleLoadList.filter((name) => name.includes('undici'))
    console.log(JSON.stringify([...seen, ...inside]))`
  const seen: string[] = JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', program]).toString())
  const floors = new Set(seen.flatMap((url) => /\/src\/(\w+)\//.exec(url)?.[1] ?? []))
  expect([...floors].toSorted()).toEqual(['agent', 'base', 'cli', 'gmsa', 'kerberos'])
  const packages = new Set(seen.flatMap((url) => /\/node_modules\/((?:@[\w.-]+\/)?[\w.-]+)/.exec(url)?.[1] ?? []))
  for (const absent of ['fastify', 'prom-client', 'undici', 'ldapts', 'pkijs', '@noble/hashes'])
    expect([...packages]).not.toContain(absent)
  expect([...packages]).toContain('commander')
  // Node's own copy, which an import of node:http loads.
  expect(seen.filter((name) => name.includes('undici'))).toEqual([])
})
