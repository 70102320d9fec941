import { stat } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type AgentLab, startAgentLab } from '../lab/agent-lab.ts'
import { needs } from '../lab/skip.ts'
import { eventually } from '../server/wire.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE

describe.skipIf(!needs('samba', 'krb5'))('clients that use a credential cache of an agent', () => {
  let lab: AgentLab
  beforeAll(async () => {
    lab = await startAgentLab()
  })
  afterAll(async () => await lab[Symbol.asyncDispose]())

  test('T1: klist shows the ticket of the gMSA, and it is good for tickets of services', async () => {
    const { domain } = lab
    const file = lab.path('krb5cc')
    const agent = await lab.keep({ kind: 'ccache', file, ticket: { lifetime: 10 * HOUR, forwardable: false } })
    const shown = await domain.run('klist', ['-c', `FILE:${file}`])
    expect(shown.stdout).toContain(`Default principal: web01$@${domain.realm}`)
    expect(shown.stdout).toContain(`krbtgt/${domain.realm}@${domain.realm}`)
    const asked = await domain.run('kvno', ['-q', '-c', `FILE:${file}`, `HTTP/web01.${domain.dns}`])
    expect(asked).toMatchObject({ code: 0, stderr: '' })
    await agent.stop()
  })

  test.skipIf(!needs('root'))('T2: the user it is for can use it, and no other can', async () => {
    const file = lab.path('krb5cc-1654')
    const ticket = { lifetime: 10 * HOUR, forwardable: false }
    const agent = await lab.keep({ kind: 'ccache', file, ticket, owner: '1654', group: '1654' })
    const as = async (uid: number, ...command: string[]) => {
      const user = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--bounding-set=-all', '--no-new-privs']
      // By this machine's clock, which nobody has moved yet: libfaketime does not outlive a change of the user.
      const env = { KRB5_CONFIG: lab.path('krb5.conf'), LD_PRELOAD: '' }
      return lab.domain.run('setpriv', [...user, ...command], undefined, env)
    }
    expect(await as(1654, 'klist', '-c', `FILE:${file}`)).toMatchObject({ code: 0, stderr: '' })
    const asked = await as(1654, 'kvno', '-q', '-c', `FILE:${file}`, `HTTP/web01.${lab.domain.dns}`)
    expect(asked).toMatchObject({ code: 0, stderr: '' })
    const refused = await as(1655, 'klist', '-c', `FILE:${file}`)
    expect(refused.code).not.toBe(0)
    expect(refused.stderr).toMatch(/Permission denied|Credentials cache permissions incorrect/)
    await agent.stop()
  })

  test('T1, T3: with tickets of ten minutes klist -s finds a good one all through an hour', async () => {
    const file = lab.path('krb5cc-short')
    const agent = await lab.keep({ kind: 'ccache', file, ticket: { lifetime: 10 * MINUTE, forwardable: false } })
    const began = lab.clock.ahead
    const inodes = new Set<number>()
    const due = () => Date.parse(agent.status().outputs[0]?.refreshAt ?? '')
    for (let second = 0; second <= 3_600; second += 10) {
      await lab.moveTo(began + second * SECOND)
      // What is due now is on its way: on a busy machine the clock would else run on beyond its time-outs.
      await eventually(() => due() > lab.clock.now(), `a ticket at second ${second}`, 30_000)
      const { code } = await lab.domain.run('klist', ['-s', '-c', `FILE:${file}`])
      expect(code, `second ${second}: ${JSON.stringify(lab.lines.slice(-3))}`).toBe(0)
      inodes.add((await stat(file)).ino)
    }
    expect(inodes.size).toBeGreaterThan(5)
    await agent.stop()
  }, 300_000)
})
