import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { Agent, request as httpsRequest } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { CLI, ROOT, type RunningService, runCli, startRun } from '../fakes/cli.ts'
import { makePki, type Pki, writePki } from '../fakes/pki.ts'
import { call } from '../fakes/rig.ts'

let directory: string
let pki: Pki
let config: Record<string, unknown>
const children: ChildProcess[] = []

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'gmsa-process-'))
  pki = await makePki()
  const files = await writePki(directory, pki)
  await mkdir(join(directory, 'secrets'), { mode: 0o700 })
  const record = JSON.stringify({ username: 'u', password: 'p', domainName: 'd' })
  await writeFile(join(directory, 'secrets', 'svc-ccg.json'), record, { mode: 0o600 })
  config = {
    listen: { port: 0 },
    admin: { port: 0 },
    tls: { ...files.server, clientCa: files.ca },
    providers: { local: { type: 'file', directory: 'secrets' } },
    accounts: { 'svc-ccg': { provider: 'local' } },
    ccg: { directory: 'host', namespace: 'contoso-ad', client: files.client },
    limits: { requestsPerSecond: 100_000 },
  }
})
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  await rm(directory, { recursive: true, force: true })
})

async function start(more: Record<string, unknown> = {}): Promise<RunningService> {
  const file = join(directory, 'config.json')
  await writeFile(file, JSON.stringify({ ...config, ...more }))
  return startRun([process.execPath, ...CLI, 'run', '--config', file], {}, (child) => children.push(child))
}

const portFile = () => join(directory, 'host', 'contoso-ad', 'port.txt')

function target(port: number) {
  const { certificate: cert, key } = pki.client
  return {
    host: '127.0.0.1',
    port,
    path: '/provider',
    headers: { object: 'svc-ccg' },
    servername: 'localhost',
    ca: pki.ca.certificate,
    cert,
    key,
  }
}

describe('run', () => {
  test('SIGTERM under load: every request whose head was received is answered, exit 0, port.txt gone', async () => {
    const { child, port, exited } = await start({ shutdown: { drainDelay: '500ms', grace: '5s' } })
    expect(await readFile(portFile(), 'utf8')).toBe(String(port))
    const answers: number[] = []
    const failures: NodeJS.ErrnoException[] = []
    let stopping = false
    const worker = async (agent: Agent | false) => {
      while (!stopping) {
        // The head is sent once the handshake is done, or at once where the connection was open already.
        let sent = false
        await call({ ...target(port), agent }, (options, answer) => {
          const request = httpsRequest(options, answer)
          request.once('socket', (socket) => {
            sent = request.reusedSocket
            if (sent) return
            socket.once('secureConnect', () => {
              sent = true
            })
          })
          return request
        })
          .then(({ status }) => answers.push(status))
          .catch((error: NodeJS.ErrnoException) => {
            // Once the listener is closed a new connection is refused, or reset by the kernel's queue: no head was sent.
            stopping = true
            if (sent) failures.push(error)
          })
      }
    }
    const agents = [1, 2, 3].map(() => new Agent({ keepAlive: true, maxSockets: 1 }))
    const workers = Promise.all([...agents.map(worker), worker(false), worker(false)])
    await expect.poll(() => answers.length, { timeout: 10_000 }).toBeGreaterThan(200)
    child.kill('SIGTERM')
    await expect.poll(() => existsSync(portFile())).toBe(false)
    const before = answers.length
    await workers
    expect(await exited).toEqual([0, null])
    expect(failures).toEqual([])
    expect(answers.length).toBeGreaterThan(before)
    expect(new Set(answers)).toEqual(new Set([200]))
    for (const agent of agents) agent.destroy()
  })

  test('a second signal at once is the echo of the first; one a second later ends the process at once', async () => {
    const { child, exited } = await start({ shutdown: { drainDelay: '20s', grace: '25s' } })
    child.kill('SIGINT')
    await new Promise((resolve) => setTimeout(resolve, 200))
    child.kill('SIGINT')
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    expect(child.exitCode).toBeNull()
    child.kill('SIGINT')
    expect(await exited).toEqual([130, null])
  })

  test('says where it listens and writes one line for each request', async () => {
    const { port, lines } = await start()
    expect((await call({ ...target(port), agent: false })).status).toBe(200)
    await expect.poll(() => lines.filter(({ msg }) => msg === 'request')).toHaveLength(1)
    expect(lines.find(({ msg }) => msg === 'request')).toMatchObject({
      client: 'spiffe://localhost/client/test',
      route: '/provider',
      account: 'svc-ccg',
      outcome: 'ok',
      provider: 'local',
    })
  })

  test('a port that is taken ends with a clear error and without host files left behind', async () => {
    const { port } = await start({ ccg: undefined })
    await writeFile(join(directory, 'second.json'), JSON.stringify({ ...config, listen: { port } }))
    const { code, stderr } = await runCli(['run', '--config', join(directory, 'second.json')])
    expect(code).toBe(78)
    expect(stderr).toMatch(/^gmsa-account-provider: error: listen: 127\.0\.0\.1 port \d+: EADDRINUSE$/m)
    expect(stderr).toMatch(/^gmsa-account-provider: hint: /m)
    expect(existsSync(portFile())).toBe(false)
  })

  test('nothing starts on a broken configuration: exit 78, every problem named', async () => {
    await writeFile(
      join(directory, 'broken.yaml'),
      'listen: { port: x }\nproviders: {}\naccounts: { A: { provider: b } }\n',
    )
    const { code, stdout, stderr } = await runCli(['run', '--config', join(directory, 'broken.yaml')])
    expect(code).toBe(78)
    expect(stdout).toBe('')
    for (const said of ['listen.port', 'accounts', 'tls']) expect(stderr).toContain(said)
  })

  test('a key that is not that of the certificate is a configuration error', async () => {
    await writeFile(join(directory, 'server', 'tls.key'), pki.client.key)
    await writeFile(join(directory, 'config.json'), JSON.stringify(config))
    const { code, stderr } = await runCli(['run', '--config', join(directory, 'config.json')])
    expect(code).toBe(78)
    expect(stderr).toContain('not the private key of')
  })
})

describe('the other commands', () => {
  test('check finds everything in order, and names what is not', async () => {
    await writeFile(join(directory, 'config.json'), JSON.stringify(config))
    const good = await runCli(['check', '--config', join(directory, 'config.json')])
    expect(good.stderr).toBe('')
    expect(good.code).toBe(0)
    expect(good.stdout).toMatch(/^ok +account svc-ccg/m)
    await writeFile(join(directory, 'secrets', 'svc-ccg.json'), '{"username":"u","password":"hunter2"}')
    const bad = await runCli(['check', '--json', '--config', join(directory, 'config.json')])
    expect(bad.code).toBe(1)
    expect(bad.stdout).not.toContain('hunter2')
    const { ok, findings } = JSON.parse(bad.stdout)
    expect(ok).toBe(false)
    expect(findings).toContainEqual(
      expect.objectContaining({ subject: 'account svc-ccg', state: 'failed', code: 'MATERIAL_MALFORMED' }),
    )
    expect((await runCli(['check', '--offline', '--config', join(directory, 'config.json')])).code).toBe(0)
  })

  test('cleanup removes what run wrote, twice without complaint', async () => {
    const { child, exited } = await start({ shutdown: { drainDelay: '0s', grace: '5s' } })
    child.kill('SIGTERM')
    await exited
    expect(existsSync(join(directory, 'host', 'contoso-ad', 'ssl'))).toBe(true)
    for (let times = 0; times < 2; times++) {
      const { code, stderr } = await runCli(['cleanup', '--config', join(directory, 'config.json')])
      expect(stderr).toBe('')
      expect(code).toBe(0)
      expect(existsSync(join(directory, 'host', 'contoso-ad'))).toBe(false)
    }
  })

  test.each([[['bogus']], [['run', '--bogus']], [['doctor']], [['certs']]])(
    '%o is a usage error: exit 2',
    async (args) => {
      const { code, stderr } = await runCli(args)
      expect(stderr).toMatch(/^gmsa-account-provider: error: /)
      expect(code).toBe(2)
    },
  )

  test.each(['run', 'check', 'doctor', 'certs', 'config', 'cleanup'])('%s --help explains itself', async (command) => {
    const { code, stdout } = await runCli([command, '--help'])
    expect(code).toBe(0)
    expect(stdout).toContain(`Usage: gmsa-account-provider ${command}`)
  })

  test('--version is "<version> (<commit>)"', async () => {
    const { stdout } = await runCli(['--version'], { env: { GMSA_PROVIDER_COMMIT: 'abc1234' } })
    expect(stdout).toMatch(/^\d+\.\d+\.\d+ \(abc1234\)\n$/)
  })
})

describe('npm run demo', () => {
  test('shows every step and ends with 0', async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [join(ROOT, 'scripts/demo.ts')], { timeout: 60_000 })
    for (const said of [
      '"username":"svc-ccg"',
      'content-length: 0',
      'refused:',
      'gmsa_provider_provider_up{provider="local"} 1',
    ]) {
      expect(stdout).toContain(said)
    }
  })

  test('--keep leaves the server running, and the printed curl lines work when pasted', async (context) => {
    const { stdout: where } = await promisify(execFile)('sh', ['-c', 'command -v curl || true'])
    context.skip(where === '', 'curl is not installed')
    const child = spawn(process.execPath, [join(ROOT, 'scripts/demo.ts'), '--keep'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    children.push(child)
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
    await expect.poll(() => output, { timeout: 40_000 }).toContain('Still running')
    const lines = output.split('\n').flatMap((line) => line.match(/^ {3}\$ (curl .*)$/)?.[1] ?? [])
    expect(lines).toHaveLength(4)
    const [good = '', absent = '', refused = '', metrics = ''] = lines
    const paste = (line: string) => promisify(execFile)('sh', ['-c', line], { timeout: 10_000 })
    expect(JSON.parse((await paste(good)).stdout)).toMatchObject({ username: 'svc-ccg' })
    expect((await paste(absent)).stdout).toMatch(/^HTTP\/1\.1 404 /)
    await expect(paste(refused)).rejects.toThrow(/certificate required/)
    expect((await paste(metrics)).stdout).toContain('gmsa_provider_requests_total')
    const exited = once(child, 'exit')
    child.kill('SIGINT')
    expect(await exited).toEqual([0, null])
  })
})
