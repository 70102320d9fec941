import { readFile, writeFile } from 'node:fs/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { Secret } from '../../src/base/secret.ts'
import { encodeKeytab } from '../../src/kerberos/keytab.ts'
import { parsePrincipal } from '../../src/kerberos/principal.ts'
import {
  type AgentRig,
  type AgentRigOptions,
  HOUR,
  identityOf,
  kvnosOf,
  MINUTE,
  makeAgentRig,
} from '../fakes/agent-rig.ts'
import { eventually } from '../server/wire.ts'

let at: AgentRig
const setUp = async (options: AgentRigOptions = {}) => {
  at = await makeAgentRig(options)
}
afterEach(async () => await at[Symbol.asyncDispose]())

/** Questions for keytabs so far, those that are held not counted. */
const asked = () =>
  at.rigs.flatMap(({ lines }) => lines.filter(({ route }) => String(route).endsWith('/keytab'))).length

describe('when the agent asks', () => {
  test('R1: at the start, as the window opens and after the change, and not in between', async () => {
    await setUp({ before: 50 * MINUTE })
    const agent = await at.start([{ kind: 'initiator' }], { wait: 0 })
    await agent.ready
    const times: number[] = []
    for (let minute = -50; minute < 20; minute++) {
      const before = asked()
      await at.advance(MINUTE)
      if (asked() > before) times.push(minute)
    }
    expect(times).toEqual([-5, 0])
    expect(kvnosOf(await at.keytab('web01-initiator'))).toEqual([10])
  })

  test('R1: at least once in checkInterval', { timeout: 60_000 }, async () => {
    await setUp({ before: -HOUR })
    const agent = await at.start([{}], { wait: 0, checkInterval: 30 * MINUTE })
    await agent.ready
    const before = asked()
    await at.advance(4 * HOUR + MINUTE)
    // An answer takes real time, in which this clock moves on by up to a minute.
    expect(asked() - before).toBeGreaterThanOrEqual(7)
    expect(asked() - before).toBeLessThanOrEqual(8)
  })

  test.each([
    ['forward', HOUR],
    ['back', -HOUR],
  ])('R2: within seconds after the clock was set %s by an hour', async (_way, step) => {
    await setUp({ before: -HOUR })
    const agent = await at.start([{}, { kind: 'initiator' }], { checkInterval: 24 * HOUR })
    await agent.ready
    await at.clock.advance(2_000)
    await eventually(() => agent.status().ready, 'both')
    const before = asked()
    at.clock.stepWall(step)
    await at.clock.advance(6_000)
    // What was held is given up, and asked again at once.
    await eventually(() => asked() >= before + 2, 'both asked again')
  })

  test('R2: what was slept through is caught up at the first look', async () => {
    await setUp({ before: 30 * MINUTE })
    const agent = await at.start([{ kind: 'initiator' }])
    await agent.ready
    at.clock.stepWall(45 * MINUTE)
    await at.clock.advance(6_000)
    await eventually(async () => kvnosOf(await at.keytab('web01-initiator'))[0] === 10, 'the new key')
  })

  test('R3: an account that fails is tried again, ever less often, and holds up no other', async () => {
    await setUp({ before: 30 * MINUTE, accounts: ['web01'] })
    const agent = await at.start([{ name: 'ghost' }, { name: 'web01' }], { wait: 0 })
    await eventually(() => agent.status().outputs.every(({ problem, ready }) => ready || problem), 'both tried')
    expect(agent.status().outputs[0]?.problem).toMatchObject({
      code: 'ACCOUNT_NOT_FOUND',
      message: 'ghost: the service answers 404 ACCOUNT_NOT_FOUND',
      hint: expect.stringContaining('clients[].allow'),
    })
    const before = asked()
    await at.advance(10 * MINUTE)
    // After 1.5, 3, 6, 12, 24 and then every 45 s: two thirds of a minute with half of the jitter.
    expect(asked() - before).toBeGreaterThan(8)
    expect(asked() - before).toBeLessThan(25)
    await at.advance(16 * MINUTE)
    expect(kvnosOf(await at.keytab('web01-acceptor'))).toEqual([10, 9])
    const told = at.lines.filter(({ message }) => message.startsWith('not up to date'))
    expect(told.map(({ level }) => level).slice(0, 3)).toEqual(['warn', 'debug', 'debug'])
  })

  test('R5: a call to refresh is a question at once, also while one is held', async () => {
    await setUp({ before: -HOUR })
    const agent = await at.start([{}])
    await agent.ready
    await at.clock.advance(2_000)
    const before = asked()
    agent.refresh()
    await eventually(() => asked() > before, 'another question')
  })
})

describe('an answer older than the file', () => {
  const old = async (kvno: number) => {
    const entry = {
      principal: parsePrincipal('web01$@AD.TEST'),
      timestamp: Math.floor((at.clock.now() - HOUR) / 1000),
      enctype: 18,
      key: new Secret(new Uint8Array(32).fill(1)),
    }
    await writeFile(at.path('web01-initiator'), encodeKeytab([{ ...entry, kvno }]), { mode: 0o600 })
  }

  test('R4: does not replace a higher key version, until half a minute later it still is the answer', async () => {
    await setUp()
    await old(40)
    const before = await identityOf(at.path('web01-initiator'))
    const agent = await at.start([{ kind: 'initiator' }])
    await eventually(() => agent.status().outputs[0]?.problem !== undefined, 'a refusal')
    await at.clock.advance(20_000)
    expect(await identityOf(at.path('web01-initiator'))).toBe(before)
    expect(at.lines.filter(({ message }) => message.includes('higher kvno'))).toHaveLength(1)
    await at.advance(2 * MINUTE)
    await agent.ready
    expect(kvnosOf(await at.keytab('web01-initiator'))).toEqual([9])
  })

  test('R4: a run that ends with it asks twice', async () => {
    await setUp()
    await old(40)
    const results = at.once([{ kind: 'initiator' }])
    await eventually(() => asked() === 1, 'the first question')
    await eventually(async () => {
      await at.clock.advance(500)
      return asked() === 2
    }, 'the second question')
    expect((await results)[0]?.error).toBeUndefined()
    expect(kvnosOf(await at.keytab('web01-initiator'))).toEqual([9])
  })

  test('R4: takes no key from an acceptor', async () => {
    await setUp()
    await at.once([{}])
    const first = await readFile(at.path('web01-acceptor'))
    at.directory.pretendKvno(3)
    await using other = await makeAgentRig({ directory: { kvno: 1 } })
    await other.once([{ file: at.path('web01-acceptor') }])
    const kvnos = kvnosOf(await at.keytab('web01-acceptor'))
    expect(kvnos).toEqual([9, 8, 3, 2])
    expect((await readFile(at.path('web01-acceptor'))).length).toBe(2 * first.length - 2)
  })
})
