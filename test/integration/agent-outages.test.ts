import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type Agent, startAgent } from '../../src/agent/agent.ts'
import type { OutputStatus } from '../../src/agent/status.ts'
import { parseKeytab } from '../../src/kerberos/keytab.ts'
import { CLI, type RunningService, startRun } from '../fakes/cli.ts'
import { type Pki, writePki } from '../fakes/pki.ts'
import { keepingLog, type LogLine, type Rig } from '../fakes/rig.ts'
import { type AgentFiles, addressOf, agentArguments, configOf, filesIn, runOnceUnder } from '../lab/agent-forms.ts'
import { makeDirectoryRig, makeYearPki, nextChange } from '../lab/directory-rig.ts'
import { type Domain, type Run, startDomain } from '../lab/domain.ts'
import { addGmsa, keyVersionOf, setReaders } from '../lab/gmsa.ts'
import { type ShiftedClock, shiftedClock } from '../lab/shifted-clock.ts'
import { needs } from '../lab/skip.ts'
import { logOn } from '../lab/tickets.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
/** In ms: nobody waits longer for an answer or an error; and what a busy machine may add, the start of a process too. */
const LIMIT = 10 * SECOND
const SLACK = 5 * SECOND
const ACCOUNT = 'web02'

describe.skipIf(!needs('samba', 'krb5', 'ldap-utils'))('an agent, running and run by hand', () => {
  let domain: Domain
  let pki: Pki
  let first: string
  let second: string
  let pids: Readonly<Record<string, number>>
  const clock: ShiftedClock = shiftedClock()
  const stopped = new Set<number>()
  let stack = new AsyncDisposableStack()
  let places = 0

  beforeAll(async () => {
    domain = await startDomain()
    await addGmsa(domain, { name: ACCOUNT, intervalDays: 1, servicePrincipalNames: [`HTTP/${ACCOUNT}.${domain.dns}`] })
    first = domain.ip
    second = await domain.secondDc()
    const pidOf = async (name: string) => Number(await readFile(join(domain.state, name, 'run/samba.pid'), 'utf8'))
    pids = { [first]: await pidOf('dc1'), [second]: await pidOf('dc2') }
    pki = await makeYearPki()
  })
  afterEach(async () => {
    for (const pid of stopped) goOn(pid)
    await stack.disposeAsync()
    stack = new AsyncDisposableStack()
  })
  afterAll(async () => {
    await domain?.[Symbol.asyncDispose]()
  })

  /** The process takes connections and says nothing. */
  function hang(pid = Number.NaN): void {
    stopped.add(pid)
    process.kill(pid, 'SIGSTOP')
  }
  function goOn(pid = Number.NaN): void {
    stopped.delete(pid)
    process.kill(pid, 'SIGCONT')
  }

  async function moveTo(ahead: number): Promise<void> {
    await domain.clock(`+${Math.floor(ahead / SECOND)}`)
    clock.shiftTo(ahead)
  }

  async function place(): Promise<AgentFiles> {
    places += 1
    const folder = join(domain.state, `agent-${places}`)
    await mkdir(folder)
    return filesIn(folder)
  }

  async function service(servers: readonly string[]): Promise<Rig> {
    return stack.use(await makeDirectoryRig(domain, clock, { accounts: [ACCOUNT], servers, pki }))
  }

  interface Running {
    readonly agent: Agent
    readonly lines: readonly LogLine[]
    readonly files: AgentFiles
    outputs(): readonly OutputStatus[]
    metrics(): Promise<string>
  }

  /** An agent that keeps running, by the moved clock. */
  async function running(rig: Rig, servers = [addressOf(rig)]): Promise<Running> {
    const files = await place()
    const { log, lines } = keepingLog()
    const status = { host: '127.0.0.1', port: 0, required: true }
    const config = { ...configOf(rig, ACCOUNT, files), servers, status, wait: 0 }
    const about = { random: Math.random, randomBytes, version: '0.0.0-test', commit: 'none' }
    const agent = await startAgent({ config, clock, log, ...about })
    stack.defer(() => agent.stop())
    const url = `http://127.0.0.1:${agent.listening?.port}/metrics`
    return {
      agent,
      lines,
      files,
      outputs: () => agent.status().outputs,
      metrics: async () => (await fetch(url, { signal: AbortSignal.timeout(5 * SECOND) })).text(),
    }
  }

  /** The real command, to its end, in time. */
  async function byHand(rig: Rig, files: AgentFiles, servers = [addressOf(rig)], env: object = {}): Promise<Run> {
    const began = performance.now()
    const args = [...agentArguments(rig.files, ACCOUNT, files, servers), '--once']
    const run = await runOnceUnder(domain, args, '022', env)
    expect(performance.now() - began).toBeLessThan(LIMIT + SLACK)
    return run
  }

  const contents = async (files: AgentFiles) =>
    Object.fromEntries(
      await Promise.all(
        Object.entries(files).map(async ([kind, file]) => {
          const { ino, mtimeNs } = await stat(file, { bigint: true })
          return [kind, `${ino} ${mtimeNs} ${(await readFile(file)).toString('hex')}`]
        }),
      ),
    )

  /** Both keytabs are those of now: the directory's key version, and a log-on. */
  async function expectFresh(files: AgentFiles, controller = first): Promise<void> {
    const kvno = await keyVersionOf(domain, ACCOUNT, controller)
    const inFile = parseKeytab(await readFile(files.initiator)).map((each) => each.kvno)
    expect(new Set(inFile)).toEqual(new Set([kvno]))
    expect(parseKeytab(await readFile(files.acceptor)).map((each) => each.kvno)).toContain(kvno)
    expect(await logOn(domain, files.initiator, `${ACCOUNT}$`)).toBeUndefined()
  }

  /** The service as a process of its own. */
  async function serviceProcess(env: object): Promise<RunningService & { readonly address: string }> {
    const folder = await mkdtemp(join(domain.state, 'service-'))
    const files = await writePki(folder, pki)
    const passwordFile = join(folder, 'bind-password')
    await writeFile(passwordFile, domain.ccg.password, { mode: 0o600 })
    const bind = { username: domain.ccg.username, domainName: domain.dns, passwordFile }
    const config = {
      listen: { port: 0 },
      admin: { port: 0 },
      tls: { ...files.server, clientCa: files.ca },
      providers: { ad: { type: 'active-directory', domain: domain.dns, servers: [first], ca: domain.ca, bind } },
      accounts: { [ACCOUNT]: { provider: 'ad' } },
      clients: [{ match: { uri: 'spiffe://localhost/client/test' }, allow: ['keytab'], accounts: ['*'] }],
      shutdown: { drainDelay: '0s' },
    }
    const file = join(folder, 'config.json')
    await writeFile(file, JSON.stringify(config))
    const command = [process.execPath, ...CLI, 'run', '--config', file]
    const started = await startRun(command, { env: { ...domain.env, ...env } }, endWith)
    return { ...started, address: `https://localhost:${started.port}` }
  }

  /** The agent as a process of its own, with everything up to date. */
  async function agentProcess(rig: Rig, files: AgentFiles, server: string, env: object): Promise<void> {
    const args = [...agentArguments(rig.files, ACCOUNT, files, [server])]
    const stdio = ['ignore', 'pipe', 'inherit'] as const
    const child = spawn(process.execPath, args, { env: { ...domain.env, ...env }, stdio: [...stdio] })
    endWith(child)
    for await (const line of createInterface({ input: child.stdout })) {
      if (JSON.parse(line).msg === 'every file is up to date') return
    }
    throw new Error('the agent ended')
  }

  function endWith(child: ChildProcess): void {
    stack.defer(async () => {
      const ended = once(child, 'exit')
      if (child.exitCode === null && child.signalCode === null && child.kill('SIGKILL')) await ended
    })
  }

  /** Controllers of the lab do not replicate a change: the second one counts those that it sees itself. */
  async function keepSecondInStep(): Promise<void> {
    const rig = await service([second])
    expect((await rig.get(`/v1/accounts/${ACCOUNT}/keytab`)).status).toBe(200)
  }

  const problems = ({ outputs }: Running) => outputs().map(({ problem }) => problem?.code)
  const FINE = [undefined, undefined]
  const eventually = { timeout: 40 * SECOND, interval: 100 }

  test('a ticket of another domain in the environment changes nothing, for the service neither', async () => {
    await using other = await startDomain({ seed: false })
    const { ccache } = await other.kinit(other.admin.username, other.admin.password)
    const env = { KRB5CCNAME: ccache }
    const ambient = await readFile(ccache.replace('FILE:', ''))
    const spn = `HTTP/${ACCOUNT}.${domain.dns}`
    // Others stumble over it: both domains have the same realm.
    expect((await domain.run('kvno', [spn], undefined, env)).code).not.toBe(0)

    const rig = await service([first])
    const { address } = await serviceProcess(env)
    const [kept, files] = [await place(), await place()]
    await agentProcess(rig, kept, address, env)
    expect(await byHand(rig, files, [address], env)).toMatchObject({ code: 0, stderr: '' })
    for (const each of [kept, files]) await expectFresh(each)
    expect((await readFile(ccache.replace('FILE:', ''))).equals(ambient)).toBe(true)
  })

  test('a service that is silent, then refuses: the next address answers, and without one there is an error', async () => {
    const rig = await service([first])
    const { child, address, exited } = await serviceProcess({})
    const [both, alone] = [[address, addressOf(rig)], [address]]
    const [kept, lonely, files] = [await running(rig, both), await running(rig, alone), await place()]
    await Promise.all([kept.agent.ready, lonely.agent.ready])
    expect(kept.outputs().map(({ server }) => server)).toEqual([address, address])
    const others = await place()
    expect(await byHand(rig, others, alone)).toMatchObject({ code: 0 })
    const before = [await contents(lonely.files), await contents(others)]

    hang(child.pid)
    for (const { agent } of [kept, lonely]) agent.refresh()
    const inTime = { timeout: LIMIT + SLACK, interval: 50 }
    await Promise.all([
      expect.poll(() => kept.outputs().map(({ server }) => server), inTime).toEqual([addressOf(rig), addressOf(rig)]),
      expect.poll(() => problems(lonely), inTime).toEqual(['STORE_TIMEOUT', 'STORE_TIMEOUT']),
      expect(byHand(rig, files, both)).resolves.toMatchObject({ code: 0, stderr: '' }),
      expect(byHand(rig, others, alone)).resolves.toMatchObject({
        code: 1,
        stderr: expect.stringContaining('no answer within 9 s'),
      }),
    ])
    await expectFresh(files)

    goOn(child.pid)
    child.kill('SIGKILL')
    await exited
    for (const { agent } of [kept, lonely]) agent.refresh()
    expect(await byHand(rig, files, both)).toMatchObject({ code: 0, stderr: '' })
    expect(await byHand(rig, others, alone)).toMatchObject({ code: 1, stderr: expect.stringContaining('ECONNREFUSED') })
    await expect.poll(() => problems(lonely), inTime).toEqual(['STORE_UNAVAILABLE', 'STORE_UNAVAILABLE'])
    expect(problems(kept)).toEqual(FINE)
    expect([await contents(lonely.files), await contents(others)]).toEqual(before)
  })

  test('a controller that is silent from the start: neither agent nor service ends, and both go on with it', async () => {
    hang(pids[first])
    const rig = await service([first])
    const kept = await running(rig)
    const files = await place()
    expect(await byHand(rig, files)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/STORE_(?:UNAVAILABLE|TIMEOUT)/),
    })
    await expect.poll(() => problems(kept), { timeout: LIMIT + SLACK, interval: 50 }).not.toContain(undefined)
    expect((await rig.admin('/livez')).status).toBe(200)
    expect((await rig.admin('/readyz')).status).toBe(503)
    expect(await kept.metrics()).toContain(`gmsa_agent_ready{account="${ACCOUNT}",kind="acceptor"} 0\n`)
    goOn(pids[first])
    await moveTo(clock.ahead + MINUTE)
    await kept.agent.ready
    await expectFresh(kept.files)
    expect(await byHand(rig, files)).toMatchObject({ code: 0, stderr: '' })
    await expectFresh(files)
  })

  test('the right to read withdrawn: the last good keytab stays; exit code, log and metric tell', async () => {
    const rig = await service([first])
    const kept = await running(rig)
    const files = await place()
    await kept.agent.ready
    expect(await byHand(rig, files)).toMatchObject({ code: 0 })
    const change = await nextChange(rig, clock, ACCOUNT)
    const before = [await contents(kept.files), await contents(files)]
    await setReaders(domain, ACCOUNT, 'admins')
    try {
      await moveTo(change - 4 * MINUTE)
      await expect.poll(() => problems(kept), eventually).toEqual(['STORE_DENIED', 'STORE_DENIED'])
      expect(await byHand(rig, files)).toMatchObject({ code: 1, stderr: expect.stringContaining('STORE_DENIED') })
      expect(kept.lines).toContainEqual(
        expect.objectContaining({ level: 'warn', account: ACCOUNT, kind: 'acceptor', code: 'STORE_DENIED' }),
      )
      await moveTo(change + 6 * MINUTE)
      expect(await kept.metrics()).toContain(`gmsa_agent_ready{account="${ACCOUNT}",kind="initiator"} 0\n`)
      const { body } = await rig.admin('/metrics')
      expect(body).toMatch(/^gmsa_provider_requests_total\{.*STORE_DENIED.*\} [1-9]/m)
      expect(rig.lines).toContainEqual(expect.objectContaining({ code: 'STORE_DENIED', account: ACCOUNT }))
      expect([await contents(kept.files), await contents(files)]).toEqual(before)
    } finally {
      await setReaders(domain, ACCOUNT, 'users')
    }
    await moveTo(change + 8 * MINUTE)
    await expect.poll(() => problems(kept), eventually).toEqual(FINE)
    await expectFresh(kept.files)
    expect(await byHand(rig, files)).toMatchObject({ code: 0 })
    await expectFresh(files)
    await keepSecondInStep()
  })

  test('a controller that falls silent as a change comes: older keys, then an error, and on with it', async () => {
    const rig = await service([first])
    const kept = await running(rig)
    const files = await place()
    await kept.agent.ready
    expect(await byHand(rig, files)).toMatchObject({ code: 0 })
    const change = await nextChange(rig, clock, ACCOUNT)
    const before = [await contents(kept.files), await contents(files)]
    hang(pids[first])
    await moveTo(change - 4 * MINUTE)
    await expect.poll(() => kept.outputs().map(({ stale = 0 }) => stale > 0), eventually).toEqual([true, true])
    expect(await kept.metrics()).toMatch(/^gmsa_agent_stale_seconds\{account="web02",kind="acceptor"\} [1-9]/m)
    expect(await byHand(rig, files)).toMatchObject({ code: 0 })
    await moveTo(change + 6 * MINUTE)
    await expect.poll(() => problems(kept), eventually).not.toContain(undefined)
    expect(await byHand(rig, files)).toMatchObject({ code: 1, stderr: expect.stringMatching(/STORE_/) })
    expect(kept.outputs().map(({ ready }) => ready)).toEqual([false, false])
    expect([await contents(kept.files), await contents(files)]).toEqual(before)
    goOn(pids[first])
    await moveTo(change + 8 * MINUTE)
    await expect.poll(() => problems(kept), eventually).toEqual(FINE)
    await expectFresh(kept.files)
    expect(await byHand(rig, files)).toMatchObject({ code: 0 })
    await expectFresh(files)
    await keepSecondInStep()
  })

  // The last test: the controllers do not come back.
  test('the first controller stopped: a change comes through the second; without any, the files stay', async () => {
    const rig = await service([first, second])
    const kept = await running(rig)
    const files = await place()
    await kept.agent.ready
    expect(await byHand(rig, files)).toMatchObject({ code: 0 })
    const before = [await contents(kept.files), await contents(files)]
    const change = await nextChange(rig, clock, ACCOUNT)
    process.kill(pids[first] ?? Number.NaN, 'SIGKILL')
    await moveTo(change + MINUTE)
    const changed = async () => (await contents(kept.files))['initiator'] !== before[0]?.['initiator']
    await expect.poll(changed, eventually).toBe(true)
    await expectFresh(kept.files, second)
    expect(await byHand(rig, files)).toMatchObject({ code: 0, stderr: '' })
    await expectFresh(files, second)
    expect(rig.lines.at(-1)).toMatchObject({ outcome: 'ok', server: second })

    process.kill(pids[second] ?? Number.NaN, 'SIGKILL')
    const after = [await contents(kept.files), await contents(files)]
    const restarted = await service([first, second])
    const lonely = await running(restarted)
    expect(await byHand(restarted, files)).toMatchObject({ code: 1, stderr: expect.stringMatching(/STORE_/) })
    await expect.poll(() => problems(lonely), eventually).not.toContain(undefined)
    expect([await contents(kept.files), await contents(files)]).toEqual(after)
    expect((await restarted.admin('/livez')).status).toBe(200)
  })
})
