import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chown, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { AgentLab } from './agent-lab.ts'
import { freePort } from './free-port.ts'
import { postgresFolder } from './skip.ts'

/** A real PostgreSQL on loopback that takes Kerberos log-ons alone, as the user postgres. */
export interface Postgresql extends AsyncDisposable {
  /** Logs on with the tickets of this cache: who one is then, and since when the server runs; or what psql says. */
  logOn(ccache: string): Promise<string>
}

/** Starts it in `folder`, which is made. Ask `needs('postgresql')` first. */
export async function startPostgresql(lab: AgentLab, folder: string, keytab: string): Promise<Postgresql> {
  const bin = postgresFolder() ?? ''
  const data = join(folder, 'data')
  const port = await freePort()
  const { uid, gid } = await stat('/var/lib/postgresql')
  await mkdir(folder)
  await chown(folder, uid, gid)

  /** Runs a program as the user postgres, by this machine's own clock. */
  async function run(command: string, args: readonly string[]): Promise<{ code: number; stderr: string }> {
    const child = spawn(command, args, { uid, gid, cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
    let stderr = ''
    child.stderr.on('data', (text) => {
      stderr += text
    })
    const [code] = await once(child, 'close')
    return { code: Number(code), stderr }
  }

  const made = await run(join(bin, 'initdb'), ['-D', data, '-A', 'trust', '-U', 'postgres', '--no-sync'])
  if (made.code !== 0) throw new Error(`initdb: ${made.stderr}`)
  await writeFile(join(data, 'pg_hba.conf'), 'local all all trust\nhost all all 127.0.0.1/32 gss include_realm=0\n')
  const settings = {
    port,
    listen_addresses: '127.0.0.1',
    unix_socket_directories: folder,
    krb_server_keyfile: `FILE:${keytab}`,
    fsync: 'off',
    logging_collector: 'on',
    log_directory: folder,
    log_filename: 'log',
  }
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const env = { ...(await lab.environment()), KRB5RCACHEDIR: folder }
  const child = spawn(join(bin, 'postgres'), ['-D', data, ...flags], { uid, gid, env, stdio: 'ignore' })
  const ended = once(child, 'exit')
  const local = ['-h', folder, '-p', String(port), '-U', 'postgres', '-c', 'CREATE ROLE "svc-ccg" LOGIN', 'postgres']
  for (let tries = 0; (await run('psql', local)).code !== 0; tries++) {
    if (tries === 150 || child.exitCode !== null) {
      child.kill('SIGQUIT')
      throw new Error(`PostgreSQL did not come up: ${await readFile(join(folder, 'log'), 'utf8').catch(() => '')}`)
    }
    await pause(200)
  }
  return {
    async logOn(ccache) {
      const host = `host=web01.${lab.domain.dns} hostaddr=127.0.0.1 port=${port} krbsrvname=HTTP gssencmode=disable`
      const target = `${host} user=svc-ccg dbname=postgres connect_timeout=10`
      const query = 'SELECT current_user, pg_postmaster_start_time()'
      const env = { KRB5CCNAME: ccache }
      const { stdout, stderr } = await lab.domain.run('psql', [target, '-At', '-c', query], undefined, env)
      return stderr === '' ? stdout.trim() : stderr
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGQUIT')
      await ended
    },
  }
}
