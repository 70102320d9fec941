import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type FileHandle, open } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type AgentRig, keysOf, makeAgentRig } from '../fakes/agent-rig.ts'
import { CLI } from '../fakes/cli.ts'

let at: AgentRig
beforeAll(async () => {
  at = await makeAgentRig()
})
afterAll(async () => await at[Symbol.asyncDispose]())

/** Runs a command whose standard output goes to a file, or to a reader that has gone already. */
async function run(args: readonly string[], file?: FileHandle): Promise<{ code: unknown; stderr: string }> {
  const child = spawn(process.execPath, [...CLI, ...args], { stdio: ['ignore', file?.fd ?? 'pipe', 'pipe'] })
  child.stdout?.destroy()
  const [stderr, [code]] = await Promise.all([text(child.stderr ?? expect.unreachable()), once(child, 'close')])
  return { code, stderr }
}

/** `agent` with these flags, asking the rig's service. */
function agent(...args: readonly string[]): string[] {
  const { certificate, key } = at.rig.files.client
  const server = ['--server', `https://localhost:${at.rig.service.port}`, '--ca', at.rig.files.ca]
  return ['agent', ...args, ...server, '--cert', certificate, '--key', key, '--account', 'web01']
}

describe('a command whose reader has gone', () => {
  test('does its work all the same, and says nothing of it', async () => {
    const command = agent('--once', '--acceptor-keytab', at.path('one'))
    expect(await run(command)).toEqual({ code: 0, stderr: '' })
    expect(keysOf(await at.keytab('one'))).toHaveLength(4)
  })

  test('still tells by its exit code what failed', async () => {
    const { code, stderr } = await run(agent('--once', '--acceptor-keytab', at.path('absent/one')))
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^gmsa-account-provider: error: web01 acceptor: .*absent/),
    ])
  })

  test.each([
    ['agent check', () => agent('check', '--offline', '--acceptor-keytab', at.path('two'))],
    ['--help', () => ['--help']],
    ['the help of a command below another', () => ['agent', 'lease', 'remove', '--help']],
    ['config schema', () => ['config', 'schema']],
  ])('%s ends as usual', async (_name, command) => {
    expect(await run(command())).toEqual({ code: 0, stderr: '' })
  })
})

test('what can not be printed for want of space is a failure, told in a line', async () => {
  await using full = await open('/dev/full', 'w')
  const said = 'gmsa-account-provider: error: standard output: ENOSPC\n'
  expect(await run(['config', 'schema'], full)).toEqual({ code: 1, stderr: said })
})

test.each([['--bogus'], ['agent', '--bogus'], ['agent', 'check', '--bogus'], ['agent', 'lease', 'remove', '--bogus']])(
  'usage errors begin with the name of the program: %s %s %s %s',
  async (...words) => {
    const said = "gmsa-account-provider: error: unknown option '--bogus'\n"
    expect(await run(words)).toEqual({ code: 2, stderr: said })
  },
)
