import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmod, chown, copyFile, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Agent, startAgent } from '../../src/agent/agent.ts'
import type { OutputConfig } from '../../src/agent/config.ts'
import { keepingLog, type LogLine, type Rig } from '../fakes/rig.ts'
import { makeDirectoryRig, nextChange } from '../lab/directory-rig.ts'
import { type Domain, fakeTimeLibrary, startDomain } from '../lab/domain.ts'
import { shiftedClock } from '../lab/shifted-clock.ts'
import { needs, postgresFolder } from '../lab/skip.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE

describe.skipIf(!needs('samba', 'krb5'))('who uses the files of an agent', () => {
  const clock = shiftedClock()
  const agents: Agent[] = []
  let domain: Domain
  let rig: Rig
  let lines: LogLine[]
  /** Where the moved clock stands for programs that read it as they go. */
  let onMove: ((ahead: number) => Promise<void>) | undefined

  beforeAll(async () => {
    domain = await startDomain()
    rig = await makeDirectoryRig(domain, clock)
  })
  afterAll(async () => {
    for (const agent of agents) await agent.stop()
    await rig[Symbol.asyncDispose]()
    await domain[Symbol.asyncDispose]()
  })

  async function moveTo(ahead: number): Promise<void> {
    await domain.clock(`+${Math.floor(ahead / SECOND)}`)
    await onMove?.(ahead)
    clock.shiftTo(ahead)
  }

  async function keep(output: Pick<OutputConfig, 'kind' | 'file'> & Partial<OutputConfig>): Promise<Agent> {
    const kept = keepingLog()
    lines = kept.lines
    const defaults = {
      name: 'web01',
      account: 'web01',
      mode: 0o600,
      principals: [],
      keepPrevious: 10 * HOUR + 5 * MINUTE,
    }
    const agent = await startAgent({
      config: {
        servers: [`https://localhost:${rig.service.port}`],
        tls: { ...rig.files.client, ca: rig.files.ca },
        timeout: 9 * SECOND,
        wait: 5 * MINUTE,
        checkInterval: HOUR,
        grace: 5 * MINUTE,
        krb5Config: domain.env['KRB5_CONFIG'] ?? '',
        outputs: [{ ...defaults, ...output }],
        disabled: new Map(),
      },
      clock,
      random: Math.random,
      randomBytes,
      log: kept.log,
      version: '0.0.0-test',
      commit: 'none',
    })
    agents.push(agent)
    await agent.ready
    return agent
  }

  test('T1: klist shows the ticket of the gMSA, and it is good for tickets of services', async () => {
    const file = join(domain.state, 'krb5cc')
    const agent = await keep({ kind: 'ccache', file, ticket: { lifetime: 10 * HOUR, forwardable: false } })
    const shown = await domain.run('klist', ['-c', `FILE:${file}`])
    expect(shown.stdout).toContain(`Default principal: web01$@${domain.realm}`)
    expect(shown.stdout).toContain(`krbtgt/${domain.realm}@${domain.realm}`)
    const asked = await domain.run('kvno', ['-q', '-c', `FILE:${file}`, `HTTP/web01.${domain.dns}`])
    expect(asked).toMatchObject({ code: 0, stderr: '' })
    await agent.stop()
  })

  test('T1, T3: with tickets of ten minutes klist -s finds a good one all through an hour', async () => {
    const file = join(domain.state, 'krb5cc-short')
    const agent = await keep({ kind: 'ccache', file, ticket: { lifetime: 10 * MINUTE, forwardable: false } })
    const began = clock.ahead
    const inodes = new Set<number>()
    for (let second = 0; second <= 3_600; second += 10) {
      await moveTo(began + second * SECOND)
      // Within ten simulated seconds a ticket is got in a few real milliseconds.
      await pause(10)
      const { code } = await domain.run('klist', ['-s', '-c', `FILE:${file}`])
      expect(code, `second ${second}: ${JSON.stringify(lines.slice(-3))}`).toBe(0)
      inodes.add((await stat(file)).ino)
    }
    expect(inodes.size).toBeGreaterThan(5)
    await agent.stop()
  }, 300_000)

  describe.skipIf(!needs('postgresql'))('PostgreSQL', () => {
    let folder: string
    let server: ChildProcess | undefined
    let port: number
    afterAll(async () => {
      onMove = undefined
      server?.kill('SIGQUIT')
      if (server && server.exitCode === null) await once(server, 'exit')
      await rm(folder, { recursive: true, force: true })
    })

    /** Runs a program as the user postgres, by this machine's own clock. */
    async function run(command: string, args: readonly string[]): Promise<{ code: number; stderr: string }> {
      const { uid, gid } = await stat('/var/lib/postgresql')
      const child = spawn(command, args, { uid, gid, cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
      let stderr = ''
      child.stderr.on('data', (text) => {
        stderr += text
      })
      const [code] = await once(child, 'close')
      return { code: Number(code), stderr }
    }

    /** A server that takes Kerberos log-ons alone, by the agent's keytab, under the moved clock. */
    async function startServer(keytab: string): Promise<void> {
      const bin = postgresFolder() ?? ''
      const data = join(folder, 'data')
      const made = await run(join(bin, 'initdb'), ['-D', data, '-A', 'trust', '-U', 'postgres', '--no-sync'])
      expect(made).toEqual({ code: 0, stderr: '' })
      port = 20_000 + (process.pid % 20_000)
      await writeFile(join(data, 'pg_hba.conf'), 'local all all trust\nhost all all 127.0.0.1/32 gss include_realm=0\n')
      await copyFile(domain.env['KRB5_CONFIG'] ?? '', join(folder, 'krb5.conf'))
      await chmod(join(folder, 'krb5.conf'), 0o644)
      const settings = {
        port,
        listen_addresses: '127.0.0.1',
        unix_socket_directories: folder,
        krb_server_keyfile: `FILE:${keytab}`,
        fsync: 'off',
      }
      const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
      const env = {
        PATH: process.env['PATH'] ?? '',
        KRB5_CONFIG: join(folder, 'krb5.conf'),
        KRB5RCACHENAME: 'none:',
        LD_PRELOAD: await fakeTimeLibrary(),
        FAKETIME_TIMESTAMP_FILE: join(folder, 'clock'),
        FAKETIME_NO_CACHE: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
      }
      const { uid, gid } = await stat('/var/lib/postgresql')
      server = spawn(join(bin, 'postgres'), ['-D', data, ...flags], {
        uid,
        gid,
        env,
        stdio: ['ignore', 'ignore', 'pipe'],
      })
      let said = ''
      server.stderr?.on('data', (text) => {
        said += text
      })
      const local = [
        '-h',
        folder,
        '-p',
        String(port),
        '-U',
        'postgres',
        '-c',
        'CREATE ROLE "svc-ccg" LOGIN',
        'postgres',
      ]
      await expect
        .poll(async () => (await run('psql', local)).code, { timeout: 30_000, interval: 200, message: said })
        .toBe(0)
    }

    /** Logs on with the tickets of this cache; gives what the server knows us by, and since when it runs. */
    async function logOn(ccache: string): Promise<string> {
      const host = `host=web01.${domain.dns} hostaddr=127.0.0.1 port=${port} krbsrvname=HTTP gssencmode=disable`
      const target = `${host} user=svc-ccg dbname=postgres connect_timeout=10`
      const query = 'SELECT current_user, pg_postmaster_start_time()'
      const { stdout, stderr } = await domain.run('psql', [target, '-At', '-c', query], undefined, {
        KRB5CCNAME: ccache,
      })
      return stderr === '' ? stdout.trim() : stderr
    }

    test('goes on taking log-ons through a change of the password, without a restart', async () => {
      folder = await mkdtemp(join(tmpdir(), 'gmsa-postgres-'))
      await chmod(folder, 0o755)
      await mkdir(join(folder, 'data'))
      const { uid, gid } = await stat('/var/lib/postgresql')
      await chown(join(folder, 'data'), uid, gid)
      await chown(folder, uid, gid)
      onMove = (ahead) => writeFile(join(folder, 'clock'), `+${Math.floor(ahead / SECOND)}\n`, { mode: 0o644 })
      const change = await nextChange(rig, clock)
      await moveTo(change - 20 * MINUTE)
      const keytab = join(folder, 'postgres.keytab')
      const agent = await keep({ kind: 'acceptor', file: keytab, owner: 'postgres' })
      await startServer(keytab)
      const { ccache: before } = await domain.kinit(domain.ccg.username, domain.ccg.password)
      const first = await logOn(before)
      expect(first).toMatch(/^svc-ccg\|/)
      for (const minute of [-10, -4, -1, 0, 1, 3, 10, 30]) {
        await moveTo(change + minute * MINUTE)
        await pause(400)
        const { ccache: fresh } = await domain.kinit(domain.ccg.username, domain.ccg.password)
        expect(await logOn(before), `minute ${minute}, with a ticket of before`).toBe(first)
        expect(await logOn(fresh), `minute ${minute}, with a new ticket`).toBe(first)
      }
      expect(agent.status().outputs[0]?.entries).toBeGreaterThanOrEqual(4)
    }, 240_000)
  })
})
