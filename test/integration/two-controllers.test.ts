import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { openProviders } from '../../src/cli/open-providers.ts'
import { keepingLog, makeRig, type Rig } from '../fakes/rig.ts'
import { type Domain, startDomain } from '../lab/domain.ts'
import { needs } from '../lab/skip.ts'

/** What the store may take for one read, in ms, and what a busy machine may add to it. */
const STORE = 4_000
const SLACK = 1_000

describe.skipIf(!needs('samba', 'krb5'))('the service over two domain controllers, as its clients see it', () => {
  let domain: Domain
  let rig: Rig
  let first: string
  let second: string
  let pids: Readonly<Record<string, number>>

  beforeAll(async () => {
    domain = await startDomain({ realm: 'random' })
    first = domain.ip
    second = await domain.secondDc()
    const pidOf = async (name: string) => Number(await readFile(join(domain.state, name, 'run/samba.pid'), 'utf8'))
    pids = { [first]: await pidOf('dc1'), [second]: await pidOf('dc2') }
    const passwordFile = join(domain.state, 'bind-password')
    await writeFile(passwordFile, domain.ccg.password, { mode: 0o600 })
    const options = {
      domain: domain.dns,
      servers: [first, second],
      timeout: `${STORE}ms`,
      ca: domain.ca,
      bind: { username: domain.ccg.username, domainName: domain.dns, passwordFile },
    }
    const context = { log: keepingLog().log, clock: systemClock }
    rig = await makeRig({
      providers: await openProviders(new Map([['ad', { type: 'active-directory', options }]]), context),
      clients: [
        { match: { uri: 'spiffe://localhost/client/test' }, allow: ['keytab', 'managed-password'], accounts: ['*'] },
      ],
      config: {
        accounts: new Map(['web01', 'sql01'].map((name) => [name, { provider: 'ad', options: {} }])),
        // Each call for a managed password reads anew.
        cache: { maxAge: 0, serveStale: 3_600_000 },
        timeouts: { store: STORE + SLACK, request: STORE + 2 * SLACK },
      },
    })
  })
  afterAll(async () => {
    for (const pid of Object.values(pids ?? {})) signal(pid, 'SIGCONT')
    await rig?.[Symbol.asyncDispose]()
    await domain?.[Symbol.asyncDispose]()
  })

  function signal(pid: number | undefined, name: NodeJS.Signals): void {
    try {
      process.kill(pid ?? Number.NaN, name)
    } catch {
      // It has ended.
    }
  }

  /** Many clients at once; the server that the audit lines name, having checked each answer. */
  async function askMany(path = 'managed-password'): Promise<string> {
    const before = rig.lines.length
    const names = Array.from({ length: 10 }, (_, index) => (index % 2 ? 'web01' : 'sql01'))
    const began = performance.now()
    const answers = await Promise.all(names.map((name) => rig.get(`/v1/accounts/${name}/${path}`)))
    expect(performance.now() - began).toBeLessThan(STORE + SLACK)
    expect(answers.map(({ status, headers }) => [status, headers['gmsa-stale']])).toEqual(
      names.map(() => [200, undefined]),
    )
    const lines = rig.lines.slice(before).filter(({ message }) => message === 'request')
    expect(lines).toHaveLength(names.length)
    const servers = new Set(lines.map(({ server }) => server))
    expect(servers.size).toBe(1)
    return String([...servers][0])
  }

  async function readsOf(server: string, outcome: string): Promise<number> {
    const { body } = await rig.admin('/metrics')
    const name = `gmsa_provider_directory_reads_total{provider="ad",server="${server}",outcome="${outcome}"} `
    const line = body.split('\n').find((each) => each.startsWith(name)) ?? `${name}0`
    return Number(line.slice(name.length))
  }

  test('L1: the first one silent, then back, then the other one stopped for good: every client has its answer', async () => {
    expect(await askMany()).toBe(first)
    expect(await askMany('keytab')).toBe(first)

    signal(pids[first], 'SIGSTOP')
    const before = await readsOf(second, 'ok')
    expect(await askMany()).toBe(second)
    expect(await readsOf(first, 'failed')).toBeGreaterThan(0)
    expect(await readsOf(second, 'ok')).toBeGreaterThan(before)
    const { status, body } = await rig.admin('/readyz?verbose')
    expect(status).toBe(200)
    expect(body).toContain('[+]provider-ad ok')

    signal(pids[first], 'SIGCONT')
    signal(pids[second], 'SIGKILL')
    expect(await askMany()).toBe(first)
    expect(await askMany('keytab')).toBe(first)
  })
})
