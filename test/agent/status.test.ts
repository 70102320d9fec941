import { spawnSync } from 'node:child_process'
import { readFile, stat } from 'node:fs/promises'
import { request } from 'node:http'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Agent } from '../../src/agent/agent.ts'
import { GmsaError } from '../../src/base/errors.ts'
import { type AgentRig, CHANGE, HOUR, MINUTE, makeAgentRig } from '../fakes/agent-rig.ts'
import { call, type Reply } from '../fakes/rig.ts'
import { program } from '../lab/skip.ts'
import { eventually } from '../server/wire.ts'

let at: AgentRig
beforeEach(async () => {
  at = await makeAgentRig({ before: 30 * MINUTE })
})
afterEach(async () => await at[Symbol.asyncDispose]())

const status = { host: '127.0.0.1', port: 0, required: true }

async function get(agent: Agent, path: string, method = 'GET'): Promise<Reply> {
  return call({ ...agent.listening, path, method, agent: false }, request)
}

/** Metrics by name and labels. */
async function metrics(agent: Agent): Promise<Readonly<Record<string, number>>> {
  const { body } = await get(agent, '/metrics')
  const lines = body.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  )
}

describe('health', () => {
  test('O1: is good once every file is right, and names each', async () => {
    const agent = await at.start([{ kind: 'acceptor' }, { kind: 'initiator' }], { status })
    await agent.ready
    expect(await get(agent, '/livez')).toMatchObject({ status: 200, body: 'ok\n' })
    for (const path of ['/readyz', '/healthz'])
      expect(await get(agent, path)).toMatchObject({ status: 200, body: 'ok\n' })
    expect((await get(agent, '/readyz?verbose')).body).toBe(
      '[+]web01-acceptor ok\n[+]web01-initiator ok\nreadyz check passed\n',
    )
    expect(JSON.parse((await get(agent, '/status')).body)).toEqual(agent.status())
  })

  test('O1: stays good while the service is away, until the grace after new keys were due is over', async () => {
    const agent = await at.start([{}], { status, grace: 5 * MINUTE })
    await agent.ready
    const { lastSuccess } = agent.status().outputs[0] ?? {}
    await at.rig.service.stop()
    await at.advance(29 * MINUTE)
    expect(await get(agent, '/readyz')).toMatchObject({ status: 200 })
    expect(agent.status().outputs[0]).toMatchObject({ lastSuccess, problem: { code: 'STORE_UNAVAILABLE' } })
    await at.advance(3 * MINUTE)
    expect(await get(agent, '/readyz')).toMatchObject({
      status: 503,
      body: expect.stringMatching(
        /^\[-\]web01-acceptor failed: new keys were due .* \(STORE_UNAVAILABLE: .*\)\nreadyz check failed\n$/,
      ),
    })
    expect(await get(agent, '/livez')).toMatchObject({ status: 200 })
  })

  test('O1: tells that the store behind the service is out', async () => {
    const agent = await at.start([{}], { status, wait: 0 })
    await agent.ready
    at.directory.fail(new GmsaError('STORE_UNAVAILABLE', 'out'))
    await at.advance(28 * MINUTE)
    expect(agent.status().outputs[0]?.stale).toBeGreaterThan(20 * 60)
    expect((await metrics(agent))['gmsa_agent_stale_seconds{account="web01",kind="acceptor"}']).toBeGreaterThan(20 * 60)
  })

  test('O4: an account that is left out is no good health, and is named', async () => {
    const disabled = new Map([['sql01', ['agent.yaml:9:5: accounts.sql01: unknown option']]])
    const agent = await at.start([{}], { status, disabled })
    await agent.ready
    expect(await get(agent, '/readyz')).toMatchObject({
      status: 503,
      body: '[+]web01-acceptor ok\n[-]sql01 failed: left out, its configuration is wrong\nreadyz check failed\n',
    })
    expect((await metrics(agent))['gmsa_agent_ready{account="sql01",kind=""}']).toBe(0)
  })

  test('K13: a file that can’t be replaced stands in the status from the start, and holds up no other', async () => {
    const agent = await at.start([{}, { name: 'sql01', file: at.path('none/keytab') }], { status })
    await eventually(() => agent.status().outputs[1]?.problem !== undefined, 'the problem')
    await eventually(() => agent.status().outputs[0]?.ready === true, 'the other')
    expect(agent.status().outputs[1]?.problem).toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('ENOENT'),
    })
    expect(at.lines.filter(({ message }) => message === 'a file cannot be kept')).toMatchObject([{ level: 'error' }])
  })

  test('an agent that can keep no file at all does not start', async () => {
    await expect(at.start([{ file: at.path('none/keytab') }], { status })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    })
  })

  test.each([
    ['/', 'GET', 404],
    ['/status', 'POST', 405],
    ['/readyz', 'HEAD', 200],
  ])('%s with %s: %i without a body', async (path, method, code) => {
    const agent = await at.start([{}], { status })
    await agent.ready
    expect(await get(agent, path, method)).toMatchObject({ status: code, body: '' })
  })

  test('a port that is taken is an error where it was asked for, and else a warning', async () => {
    const first = await at.start([{}], { status })
    const taken = { ...status, port: first.listening?.port ?? 0 }
    await expect(at.start([{}], { status: taken })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      hint: expect.stringContaining('status.port'),
    })
    const second = await at.start([{}], { status: { ...taken, required: false } })
    expect(second.listening).toBeUndefined()
    expect(at.lines.filter(({ message }) => message.startsWith('no listener for status'))).toHaveLength(1)
  })
})

describe('metrics', () => {
  test('O2: last success, next rotation, kvno, entries and hooks', async () => {
    const agent = await at.start(
      [
        { kind: 'acceptor', onChange: { command: ['true'], timeout: 5_000 } },
        { kind: 'initiator', onChange: { command: ['false'], timeout: 5_000 } },
      ],
      { status },
    )
    await agent.ready
    await eventually(
      async () => Object.keys(await metrics(agent)).filter((name) => name.includes('hook_runs')).length === 2,
      'both hooks',
    )
    const found = await metrics(agent)
    const labels = '{account="web01",kind="acceptor"}'
    expect(found).toMatchObject({
      [`gmsa_agent_ready${labels}`]: 1,
      [`gmsa_agent_kvno${labels}`]: 9,
      [`gmsa_agent_entries${labels}`]: 4,
      'gmsa_agent_entries{account="web01",kind="initiator"}': 2,
      [`gmsa_agent_last_success_timestamp_seconds${labels}`]: Math.floor(at.clock.now() / 1000),
      'gmsa_agent_hook_runs_total{account="web01",outcome="ok"}': 1,
      'gmsa_agent_hook_runs_total{account="web01",outcome="failed"}': 1,
      'gmsa_agent_hook_pending{account="web01",kind="initiator"}': 1,
      [`gmsa_agent_build_info{version="0.0.0-test",commit="none",node="${process.version}"}`]: 1,
    })
    const next = found[`gmsa_agent_next_rotation_timestamp_seconds${labels}`] ?? 0
    expect(Math.abs(next - (CHANGE - 5 * MINUTE) / 1000)).toBeLessThan(15)
    expect(found['gmsa_agent_certificate_expiry_timestamp_seconds']).toBeGreaterThan(at.clock.now() / 1000)
  })

  test('O2: pass promtool check metrics, where there is one', async () => {
    const agent = await at.start([{}, { name: 'sql01', kind: 'initiator' }], { status })
    await agent.ready
    const { body, headers } = await get(agent, '/metrics')
    expect(headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
    const promtool = program('promtool')
    if (promtool === undefined) return expect(body).toMatch(/^(# (HELP|TYPE) \S+ .*\n|\w+(\{.*\})? \S+\n)+$/)
    const { status: code, stdout, stderr } = spawnSync(promtool, ['check', 'metrics'], { input: body })
    expect(`${stdout}${stderr}`).toBe('')
    expect(code).toBe(0)
  })

  test('O2: stand in a file for node_exporter, readable for all, from the first change on', async () => {
    const textfile = at.path('gmsa_agent.prom')
    const agent = await at.start([{}], { status, textfile })
    await agent.ready
    await at.clock.advance(1_000)
    await eventually(
      async () =>
        (await readFile(textfile, 'utf8').catch(() => '')).includes(
          'gmsa_agent_ready{account="web01",kind="acceptor"} 1\n',
        ),
      'the file',
    )
    expect((await stat(textfile)).mode & 0o777).toBe(0o644)
    const { mtimeMs } = await stat(textfile)
    await at.clock.advance(61_000)
    await eventually(async () => (await stat(textfile)).mtimeMs > mtimeMs, 'another write within a minute')
  })

  test('a metrics file that can’t be written is told once and stops nothing', async () => {
    const agent = await at.start([{}], { status, textfile: at.path('none/gmsa_agent.prom') })
    await agent.ready
    await at.advance(5 * MINUTE)
    await eventually(() => at.lines.some(({ message }) => message === 'metrics could not be written'), 'a line')
    expect(at.lines.filter(({ message }) => message === 'metrics could not be written')).toHaveLength(1)
    expect(agent.status().ready).toBe(true)
  })
})

test('nothing that is shown or logged holds a key', async () => {
  const agent = await at.start(
    [{ kind: 'acceptor' }, { kind: 'initiator', onChange: { command: ['false'], timeout: 5_000 } }],
    { status },
  )
  await agent.ready
  await at.advance(HOUR)
  const shown = [
    JSON.stringify(at.lines),
    JSON.stringify(agent.status()),
    ...(await Promise.all(
      ['/metrics', '/status', '/readyz?verbose'].map(async (path) => (await get(agent, path)).body),
    )),
  ].join('\n')
  for (const { key } of [...(await at.keytab('web01-acceptor')), ...(await at.keytab('web01-initiator'))]) {
    const bytes = Buffer.from(key.reveal())
    for (const form of ['hex', 'base64', 'base64url', 'latin1'] as const)
      expect(shown).not.toContain(bytes.toString(form))
  }
})
