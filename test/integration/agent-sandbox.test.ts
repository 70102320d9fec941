import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { parseKeytab } from '../../src/kerberos/keytab.ts'
import { kvnosOf, namesIn } from '../fakes/agent-rig.ts'
import { CLI, startRun } from '../fakes/cli.ts'
import { CREDENTIAL, call } from '../fakes/rig.ts'
import { type AgentLab, startAgentLab } from '../lab/agent-lab.ts'
import { type BoxOptions, boxed, boxedProgram, compileTo, imageGroup, imageUser } from '../lab/box.ts'
import { startDns } from '../lab/dns.ts'
import { needs } from '../lab/skip.ts'

const MINUTE = 60_000
const children: ChildProcess[] = []
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

interface Running {
  readonly child: ChildProcess
  readonly ended: Promise<unknown[]>
  /** Resolves with the first line that says this; rejects when the program ends without. */
  line(message: string): Promise<Record<string, unknown>>
}

/** Starts a program that logs JSON; it is killed after the test at the latest. */
function start([command = '', ...args]: readonly string[], env: NodeJS.ProcessEnv = process.env): Running {
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  children.push(child)
  const lines: Record<string, unknown>[] = []
  const output = createInterface({ input: child.stdout }).on('line', (text) => lines.push(JSON.parse(text)))
  const ended = once(child, 'exit')
  return {
    child,
    ended,
    async line(message) {
      const find = () => lines.find(({ msg }) => msg === message)
      while (!find())
        await Promise.race([once(output, 'line'), ended.then(() => Promise.reject(new Error(JSON.stringify(lines))))])
      return find() ?? {}
    },
  }
}

describe.skipIf(!needs('samba', 'krb5'))('the agent, and what it may do', () => {
  let lab: AgentLab
  beforeAll(async () => {
    lab = await startAgentLab()
  })
  afterAll(async () => await lab[Symbol.asyncDispose]())

  /** A folder with the client's certificate and an agent's configuration, for this user. */
  async function writeConfig(name: string, user: number, accounts: object): Promise<string> {
    const folder = lab.path(name)
    await mkdir(folder)
    const { certificate, key } = lab.rig.files.client
    for (const file of [certificate, key, lab.rig.files.ca]) await copyFile(file, join(folder, basename(file)))
    await writeFile(
      join(folder, 'agent.yaml'),
      JSON.stringify({
        servers: [`https://localhost:${lab.rig.service.port}`],
        tls: { certificate: basename(certificate), key: basename(key), ca: basename(lab.rig.files.ca) },
        status: { port: 0 },
        accounts,
      }),
    )
    for (const file of await readdir(folder)) await chown(join(folder, file), user, user)
    return folder
  }

  test.skipIf(!needs('dns', 'strace', 'systemd'))(
    'S2: starts no program but the hook and systemd’s own: not for names, not for Kerberos',
    async () => {
      const { domain } = lab
      const record = { target: `dc1.${domain.dns}`, port: 88, priority: 0, weight: 0 }
      await using dns = await startDns({
        ip: domain.ip.replace(/\d+$/, '53'),
        records: ['_udp', '_tcp'].map((transport) => ({ ...record, name: `_kerberos.${transport}.${domain.dns}` })),
        hosts: { [`dc1.${domain.dns}`]: domain.ip },
      })
      await writeFile(lab.path('no-kdcs.conf'), '[libdefaults]\n  dns_lookup_kdc = true\n')
      await mkdir(lab.path('traced'))
      const at = (name: string) => lab.path(`traced/${name}`)
      const folder = await writeConfig('traced-config', 0, {
        web01: {
          acceptorKeytab: { file: at('acceptor'), onChange: { command: ['/usr/bin/touch', at('told')] } },
          initiatorKeytab: { file: at('initiator') },
          ccache: { file: at('krb5cc') },
        },
      })
      const trace = lab.path('trace')
      const traced = ['strace', '-f', '-qq', '-s', '4096', '-e', 'trace=execve,execveat', '-o', trace]
      const agent = start(
        [...dns.within, ...traced, process.execPath, ...CLI, 'agent', '--config', join(folder, 'agent.yaml')],
        { ...process.env, KRB5_CONFIG: lab.path('no-kdcs.conf'), NOTIFY_SOCKET: lab.path('no-socket') },
      )
      await agent.line('every file is up to date')
      await agent.line('change told')
      const programs = async () => {
        const lines = (await readFile(trace, 'utf8')).split('\n').filter((line) => / = 0$/.test(line))
        return lines.map((line) => basename(/execve(?:at)?\((?:\d+, )?"([^"]+)"/.exec(line)?.[1] ?? line))
      }
      await expect.poll(programs, { timeout: 10_000 }).toContain('systemd-notify')
      expect((await programs()).toSorted()).toEqual([basename(process.execPath), 'systemd-notify', 'touch'])
      expect(await namesIn(lab.path('traced'))).toEqual(['acceptor', 'initiator', 'krb5cc', 'told'])
      const shown = await domain.run('klist', ['-c', `FILE:${at('krb5cc')}`])
      expect(shown.stdout).toContain(`krbtgt/${domain.realm}@${domain.realm}`)
      process.kill(await childOf(agent.child.pid, 1), 'SIGTERM')
      expect(await agent.ended).toEqual([0, null])
    },
  )

  describe.skipIf(!needs('bubblewrap'))(
    'S3: compiled, as the image’s user, without a right, all but one folder read-only',
    () => {
      let dist: string
      beforeAll(async () => {
        dist = lab.path('dist')
        await compileTo(dist)
      })

      /** All that a program in such a box could write to. */
      async function writableIn(box: BoxOptions): Promise<string[]> {
        // Devices apart, which are there for everybody.
        const files = '( -type d -o -type f -not -path /dev/* )'
        const search = `/usr/bin/find / ( -path /proc -o -not -readable ) -prune -o ${files} -writable -print`
        const { code, stdout } = await run(boxed(box, search.split(' ')))
        expect(code).toBe(0)
        return stdout.split('\n').filter((line) => line !== '')
      }

      /** bwrap starts the process 1 of the box, and that one the program. */
      const programIn = ({ pid }: ChildProcess) => childOf(pid, 2)

      async function expectNoRights(pid: number): Promise<void> {
        const status = await readFile(`/proc/${pid}/status`, 'utf8')
        const field = (name: string) => new RegExp(`^${name}:[\\t ]*(.*?)[\\t ]*$`, 'm').exec(status)?.[1]
        expect(field('Uid')?.split('\t')).toEqual(Array(4).fill(String(imageUser)))
        for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) expect(Number(`0x${field(set)}`)).toBe(0)
        expect(field('NoNewPrivs')).toBe('1')
        expect(field('Groups')).toBe('')
      }

      test('the agent keeps keytabs and a ticket fresh through a change, writes nowhere else, and ends when told', async () => {
        const { domain } = lab
        const folder = lab.path('boxed')
        await mkdir(folder, { mode: 0o700 })
        await chown(folder, imageUser, imageGroup)
        const { FAKETIME_TIMESTAMP_FILE: _outside, PATH: _path, KRB5_CONFIG: _krb5, ...time } = await lab.environment()
        const config = await writeConfig('boxed-config', imageUser, {
          web01: {
            acceptorKeytab: { file: '/run/gmsa/acceptor' },
            initiatorKeytab: { file: '/run/gmsa/initiator' },
            ccache: { file: '/run/gmsa/krb5cc', lifetime: '10m' },
          },
        })
        const box: BoxOptions = {
          dist,
          readable: { '/config': config, '/time': lab.path('time'), '/etc/krb5.conf': lab.path('krb5.conf') },
          writable: { '/run/gmsa': folder },
          env: { ...time, FAKETIME_TIMESTAMP_FILE: '/time/clock' } as Record<string, string>,
        }
        const change = await lab.nextChange()
        await lab.moveTo(change - 20 * MINUTE)
        const agent = start(boxedProgram(box, 'agent', '--config', '/config/agent.yaml'))
        await agent.line('every file is up to date')
        const pid = await programIn(agent.child)
        await expectNoRights(pid)
        const kept = ['acceptor', 'initiator', 'krb5cc']
        expect((await writableIn(box)).toSorted()).toEqual(['/run/gmsa', ...kept.map((name) => `/run/gmsa/${name}`)])

        const newest = async (file: string) => Math.max(...kvnosOf(parseKeytab(await readFile(join(folder, file)))))
        const kvno = await newest('initiator')
        await lab.moveTo(change - 4 * MINUTE)
        // It sees within five seconds that the clock was moved.
        await expect.poll(() => newest('acceptor'), { timeout: 15_000 }).toBe(kvno + 1)
        await lab.moveTo(change + 6 * MINUTE)
        await expect.poll(() => newest('initiator'), { timeout: 15_000 }).toBe(kvno + 1)
        const ticket = async () => (await domain.run('klist', ['-s', '-c', `FILE:${join(folder, 'krb5cc')}`])).code
        await expect.poll(ticket, { timeout: 15_000 }).toBe(0)
        const logOn = ['-k', '-t', join(folder, 'initiator'), '-c', 'MEMORY:', `web01$@${domain.realm}`]
        expect(await domain.run('kinit', logOn)).toMatchObject({ code: 0, stderr: '' })

        expect(await namesIn(folder)).toEqual(kept)
        process.kill(pid, 'SIGTERM')
        expect(await agent.ended).toEqual([0, null])
      })

      test('the service serves, and needs no folder at all that it can write', async () => {
        const { files, pki } = lab.rig
        const folder = lab.path('service')
        await mkdir(join(folder, 'secrets'), { recursive: true, mode: 0o700 })
        const names = { certificate: 'tls.crt', key: 'tls.key' }
        for (const [kind, name] of Object.entries(names)) {
          await copyFile(files.server[kind as keyof typeof names], join(folder, name))
        }
        await copyFile(files.ca, join(folder, 'ca.crt'))
        await writeFile(join(folder, 'secrets', 'test-secret.json'), JSON.stringify(CREDENTIAL), { mode: 0o600 })
        await writeFile(
          join(folder, 'config.yaml'),
          JSON.stringify({
            listen: { hosts: ['127.0.0.1'], port: 0 },
            admin: { port: 0 },
            tls: { ...names, clientCa: 'ca.crt' },
            providers: { local: { type: 'file', directory: 'secrets' } },
            accounts: { 'test-secret': { provider: 'local' } },
          }),
        )
        for (const name of ['.', ...(await readdir(folder, { recursive: true }))]) {
          await chown(join(folder, name), imageUser, imageGroup)
        }
        await chmod(join(folder, 'tls.key'), 0o600)
        const box: BoxOptions = { dist, readable: { '/config': folder } }
        expect(await writableIn(box)).toEqual([])
        const line = boxedProgram(box, 'run', '--config', '/config/config.yaml')
        const service = await startRun(line, {}, (child) => children.push(child))
        const pid = await programIn(service.child)
        await expectNoRights(pid)
        const { certificate: cert, key } = pki.client
        const request = { host: '127.0.0.1', port: service.port, path: '/provider', servername: 'localhost' }
        const answer = await call({
          ...request,
          headers: { object: 'test-secret' },
          ca: pki.ca.certificate,
          cert,
          key,
          agent: false,
        })
        expect(answer.status).toBe(200)
        expect(JSON.parse(answer.body)).toEqual(CREDENTIAL)
        process.kill(pid, 'SIGTERM')
        expect(await service.exited).toEqual([0, null])
      })
    },
  )
})

/** The one process that this one has started, so many generations on. */
async function childOf(pid: number | undefined, generations: number): Promise<number> {
  const [, child] = /^(\d+) $/.exec(await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')) ?? []
  if (child === undefined) return expect.unreachable('it has one child')
  return generations === 1 ? Number(child) : childOf(Number(child), generations - 1)
}

/** Runs a program to its end. */
async function run([command = '', ...args]: readonly string[]): Promise<{ code: unknown; stdout: string }> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'], timeout: 30_000 })
  let stdout = ''
  child.stdout.on('data', (text) => {
    stdout += text
  })
  const [code] = await once(child, 'close')
  return { code, stdout }
}
