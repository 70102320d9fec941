import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { AgentLab } from './agent-lab.ts'
import { freePort } from './free-port.ts'
import { program } from './skip.ts'

/** A real OpenSSH server on loopback that knows one user, svc-ccg, and lets in by Kerberos alone. */
export interface Sshd extends AsyncDisposable {
  /** The process that was started, as long as it runs; undefined when it has ended. */
  readonly pid: number | undefined
  /** Logs on as `user` with the tickets of this cache; answers with who one is then, or what the client says. */
  enter(ccache: string, user?: string): Promise<string>
}

/** The user's number on the server's side. */
const UID = 1654
/**
 * In a namespace of its own, so that this machine stays as it is: the host's name, by which sshd finds its principal; the
 * list of users; and /run/sshd, where the part of sshd without rights is locked up.
 */
const START = `
hostname "$1" && mount --bind "$2" /etc/passwd && mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd &&
exec "$3" -D -e -f "$4"`
const ENTER = `mount --bind "$1" /etc/hosts && shift && exec ssh "$@"`

/** Starts it by the name `host`, in `folder`, which is made. Ask `needs('sshd')` first. */
export async function startSshd(lab: AgentLab, folder: string, host: string, keytab: string): Promise<Sshd> {
  const port = await freePort()
  const at = (name: string) => join(folder, name)
  await mkdir(folder)
  spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at('host_key')])
  const settings = [
    `ListenAddress 127.0.0.1:${port}`,
    `HostKey ${at('host_key')}`,
    'PidFile none',
    'AuthenticationMethods gssapi-with-mic',
    'GSSAPIAuthentication yes',
    'GSSAPIStrictAcceptorCheck yes',
    'UsePAM no',
    'LogLevel FATAL',
  ]
  await writeFile(at('sshd_config'), `${settings.join('\n')}\n`)
  const known = (await readFile('/etc/passwd', 'utf8')).replace(/^svc-ccg:.*\n/m, '')
  await writeFile(at('passwd'), `${known}svc-ccg:*:${UID}:${UID}::${folder}:/bin/sh\n`)
  await writeFile(at('hosts'), `127.0.0.1 localhost ${host}\n`)
  await writeFile(at('known_hosts'), `[${host}]:${port} ${await readFile(at('host_key.pub'), 'utf8')}`)
  for (const name of ['passwd', 'hosts']) await chmod(at(name), 0o644)
  const args = ['-c', START, 'sh', host, at('passwd'), program('sshd') ?? '/usr/sbin/sshd', at('sshd_config')]
  const child = spawn('unshare', ['--mount', '--uts', 'sh', ...args], {
    env: { ...(await lab.environment()), KRB5_KTNAME: `FILE:${keytab}`, KRB5RCACHEDIR: folder },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const ended = once(child, 'exit')
  const server: Sshd = {
    get pid() {
      return child.exitCode === null && child.signalCode === null ? child.pid : undefined
    },
    async enter(ccache, user = 'svc-ccg') {
      const options = {
        GSSAPIAuthentication: 'yes',
        PreferredAuthentications: 'gssapi-with-mic',
        UserKnownHostsFile: at('known_hosts'),
        GlobalKnownHostsFile: '/dev/null',
        BatchMode: 'yes',
        ConnectTimeout: '10',
      }
      const flags = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`])
      const command = ['-F', '/dev/null', '-p', String(port), ...flags, `${user}@${host}`, 'id -un']
      const inside = ['--mount', 'sh', '-c', ENTER, 'sh', at('hosts'), ...command]
      const { code, stdout, stderr } = await lab.domain.run('unshare', inside, undefined, { KRB5CCNAME: ccache })
      return code === 0 ? stdout.trim() : stderr.trim()
    },
    async [Symbol.asyncDispose]() {
      child.kill()
      await ended
    },
  }
  for (let tries = 0; !(await listens(port)); tries++) {
    if (tries === 200 || server.pid === undefined) {
      child.kill()
      throw new Error('sshd did not come up')
    }
    await pause(50)
  }
  return server
}

function listens(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false))
  return promise.finally(() => socket.destroy())
}
