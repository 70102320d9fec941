import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { HookConfig, OutputConfig } from '../../src/agent/config.ts'
import { type AgentRig, identityOf, kvnosOf, MINUTE, makeAgentRig, namesIn } from '../fakes/agent-rig.ts'
import { eventually } from '../server/wire.ts'

let at: AgentRig
beforeEach(async () => {
  at = await makeAgentRig()
})
afterEach(async () => await at[Symbol.asyncDispose]())

const runs = async (name = 'runs') => (await readFile(at.path(name), 'utf8').catch(() => '')).split('\n').slice(0, -1)

/** A hook that writes a line with what it was told, then ends with the code that stands in the file `code`, else 0. */
async function recorder(name = 'runs', timeout = 10_000): Promise<HookConfig> {
  const script = at.path(`${name}.sh`)
  const text = [
    '#!/bin/sh',
    `echo "$1 $GMSA_ACCOUNT $GMSA_KIND $GMSA_KVNO $GMSA_FILE" >> '${at.path(name)}'`,
    `exit "$(cat '${at.path('code')}' 2>/dev/null || echo 0)"`,
  ]
  await writeFile(script, text.join('\n'))
  await chmod(script, 0o755)
  return { command: [script, 'a b; c'], timeout }
}

const withHook = (onChange: HookConfig, more: Partial<OutputConfig> = {}) => [{ ...more, onChange }]

describe('a command', () => {
  test('H1: runs once for each changed file, and knows account, kind, path and kvno', async () => {
    const both = [
      { kind: 'acceptor' as const, onChange: await recorder('acceptor') },
      { kind: 'initiator' as const, onChange: await recorder('initiator') },
    ]
    const agent = await at.start(both)
    await agent.ready
    await eventually(async () => (await runs('acceptor')).length + (await runs('initiator')).length === 2, 'both')
    expect(await runs('acceptor')).toEqual([`a b; c web01 acceptor 9 ${at.path('web01-acceptor')}`])
    expect(await runs('initiator')).toEqual([`a b; c web01 initiator 9 ${at.path('web01-initiator')}`])
    // The acceptor's file changes as the window opens, the initiator's as the password changes.
    await at.advance(27 * MINUTE)
    await eventually(async () => (await runs('acceptor')).length === 2, 'the acceptor')
    expect(await runs('initiator')).toHaveLength(1)
    await at.advance(10 * MINUTE)
    await eventually(async () => (await runs('initiator')).length === 2, 'the initiator')
    expect((await runs('initiator'))[1]).toContain('initiator 10')
    expect(await runs('acceptor')).toHaveLength(2)
  })

  test('H1: of two accounts in one file, only the one whose keys changed is told of', async () => {
    const file = at.path('shared')
    await at.once([{ name: 'sql01', file }])
    const results = await at.once([
      { name: 'web01', file, onChange: await recorder('web') },
      { name: 'sql01', file, onChange: await recorder('sql') },
    ])
    expect(results.map(({ error }) => error)).toEqual([undefined, undefined])
    expect([await runs('web'), await runs('sql')]).toEqual([[expect.stringContaining('web01')], []])
  })

  test('H3: does not run where the bytes are equal', async () => {
    const outputs = withHook(await recorder())
    await at.once(outputs)
    const before = await identityOf(at.path('web01-acceptor'))
    await at.once(outputs)
    expect(await runs()).toHaveLength(1)
    expect(await identityOf(at.path('web01-acceptor'))).toBe(before)
  })

  test('H1: sees nothing of our environment but PATH', async () => {
    process.env['GMSA_TEST_SECRET'] = 'canary'
    try {
      await at.once(withHook({ command: ['sh', '-c', `env > '${at.path('env')}'`], timeout: 10_000 }))
      const names = (await readFile(at.path('env'), 'utf8')).split('\n').map((line) => line.split('=')[0] ?? '')
      const told = names.filter((name) => !['', 'PWD', 'OLDPWD', 'SHLVL', '_'].includes(name))
      expect(told.toSorted()).toEqual(['GMSA_ACCOUNT', 'GMSA_FILE', 'GMSA_KIND', 'GMSA_KVNO', 'PATH'])
    } finally {
      delete process.env['GMSA_TEST_SECRET']
    }
  })

  test('H2: that fails is run again until it works; the file stays, and nothing but the log is worse for it', async () => {
    await writeFile(at.path('code'), '3')
    const agent = await at.start(withHook(await recorder()))
    await agent.ready
    await eventually(async () => (await runs()).length === 1, 'the first run')
    expect(agent.status()).toMatchObject({ ready: true, outputs: [{ hookPending: true }] })
    const later = async (done: () => boolean | Promise<boolean>, what: string) =>
      eventually(async () => {
        await at.clock.advance(500)
        return done()
      }, what)
    await later(async () => (await runs()).length === 2, 'the second run')
    await writeFile(at.path('code'), '0')
    await later(() => agent.status().outputs[0]?.hookPending === false, 'success')
    const ran = (await runs()).length
    await at.advance(5 * MINUTE)
    expect(await runs()).toHaveLength(ran)
    const told = at.lines.filter(({ message }) => message.startsWith('change could not be told'))
    const [first, ...others] = told.map(({ level, problem }) => `${level} ${problem}`)
    expect(first).toMatch(/^warn .*runs\.sh: ended with code 3$/)
    expect(others.filter((each) => !each.startsWith('debug '))).toEqual([])
    expect(kvnosOf(await at.keytab('web01-acceptor'))).toEqual([9, 8])
  })

  test('H2: that is missing is no reason not to start, and is tried again', async () => {
    const agent = await at.start(withHook({ command: [at.path('runs.sh')], timeout: 1_000 }))
    await agent.ready
    await eventually(() => at.lines.some(({ problem }) => String(problem).includes("can't be run (ENOENT)")), 'a line')
    await recorder()
    await at.clock.advance(2_000)
    await eventually(async () => (await runs()).length === 1, 'a run')
  })

  test('H2: that does not end is ended, with what it started', async () => {
    const command = ['sh', '-c', `sleep 1000 & echo $! > '${at.path('pid')}'; wait`] as const
    const [result] = await at.once(withHook({ command: [...command], timeout: 300 }))
    expect(result?.error?.message).toBe('sh: not done within 0.3 s')
    const pid = Number(await readFile(at.path('pid'), 'utf8'))
    await eventually(() => {
      try {
        return !process.kill(pid, 0)
      } catch {
        return true
      }
    }, 'the end of what it started')
    expect(kvnosOf(await at.keytab('web01-acceptor'))).toEqual([9, 8])
  })

  test('H2: a change that a process before this one did not live to tell is told', async () => {
    await writeFile(at.path('code'), '1')
    const outputs = withHook(await recorder())
    const [first] = await at.once(outputs)
    expect(first?.error?.message).toContain('ended with code 1')
    expect(await namesIn(at.folder)).toContain('.web01-acceptor.web01-acceptor.pending')
    await writeFile(at.path('code'), '0')
    const before = await identityOf(at.path('web01-acceptor'))
    const agent = await at.start(outputs)
    await eventually(async () => (await runs()).length === 2, 'another run')
    await eventually(async () => !(await namesIn(at.folder)).some((name) => name.endsWith('.pending')), 'no mark')
    expect(agent.status().outputs[0]?.hookPending).toBe(false)
    expect(await identityOf(at.path('web01-acceptor'))).toBe(before)
  })
})

describe('a signal', () => {
  test('H4: goes to the process whose number stands in the file', async () => {
    const text = `trap 'echo HUP >> "${at.path('runs')}"' HUP; echo ready; while :; do sleep 0.05; done`
    const child = spawn('sh', ['-c', text], { stdio: ['ignore', 'pipe', 'inherit'] })
    try {
      await once(child.stdout, 'data')
      await writeFile(at.path('pid'), ` ${child.pid}\n`)
      const [result] = await at.once(withHook({ signal: 'SIGHUP', pidFile: at.path('pid') }))
      expect(result?.error).toBeUndefined()
      await eventually(async () => (await runs()).length === 1, 'the signal')
    } finally {
      child.kill('SIGKILL')
    }
  })

  test.each([
    ['no file', undefined, /pid: can't be read \(ENOENT\)/],
    ['no number in it', 'sshd', /expected the number of a process/],
    ['a group of processes', '-5', /expected the number of a process/],
    ['the number 0, which means all of ours', '0', /expected the number of a process/],
    ['no such process', '2147483646', /SIGHUP can't be sent \(ESRCH\)/],
  ])('H2: with %s it is tried again later', async (_what, content, said) => {
    if (content !== undefined) await writeFile(at.path('pid'), content)
    const [result] = await at.once(withHook({ signal: 'SIGHUP', pidFile: at.path('pid') }))
    expect(result?.error?.message).toMatch(said)
    expect(kvnosOf(await at.keytab('web01-acceptor'))).toEqual([9, 8])
  })
})
