import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chown, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { resolveOwner } from '../../src/agent/owner.ts'
import { freePort } from './free-port.ts'
import { httpdModules, program } from './skip.ts'

/** A real Apache httpd with mod_auth_gssapi on loopback, as a user without rights. */
export interface Httpd extends AsyncDisposable {
  readonly port: number
  readonly pidFile: string
  /** The process that was started, as long as it runs; undefined when it has ended. */
  readonly pid: number | undefined
  /** How often it has read its configuration. */
  generation(): Promise<number>
}

const MODULES = ['mpm_event', 'authn_core', 'authz_core', 'authz_user', 'auth_gssapi', 'headers', 'status']

/** Everything below `/` takes tickets alone, by any key of the keytab, and says who came in the header `X-User`. */
const configuration = (folder: string, port: number, keytab: string) => `
ServerRoot ${folder}
DefaultRuntimeDir ${folder}
PidFile ${join(folder, 'httpd.pid')}
ErrorLog ${join(folder, 'error.log')}
Listen 127.0.0.1:${port}
ServerName web01.ad.test
${MODULES.map((name) => `LoadModule ${name}_module ${join(httpdModules, `mod_${name}.so`)}`).join('\n')}
StartServers 1
MinSpareThreads 1
MaxSpareThreads 4
ServerLimit 4
ThreadsPerChild 4
MaxRequestWorkers 16
DocumentRoot ${join(folder, 'pages')}
<Location />
  AuthType GSSAPI
  AuthName gMSA
  GssapiCredStore keytab:${keytab}
  Require valid-user
  Header set X-User expr=%{REMOTE_USER}
</Location>
<Location /generation>
  SetHandler server-status
  AuthType None
  Require all granted
  Header unset X-User
</Location>
`

/** Starts it in `folder`, which is made, as the user www-data. Ask `needs('httpd')` first. */
export async function startHttpd(folder: string, keytab: string, env: NodeJS.ProcessEnv): Promise<Httpd> {
  const { uid = 0, gid = 0 } = await resolveOwner({ owner: 'www-data', group: 'www-data' })
  const port = await freePort()
  await mkdir(join(folder, 'pages'), { recursive: true })
  await writeFile(join(folder, 'pages', 'page'), 'for those who have a ticket\n')
  await writeFile(join(folder, 'httpd.conf'), configuration(folder, port, keytab))
  await chown(folder, uid, gid)
  const args = ['-f', join(folder, 'httpd.conf'), '-DFOREGROUND']
  // With a replay cache, as a server has it.
  const child = spawn(program('apache2') ?? 'apache2', args, {
    uid,
    gid,
    cwd: folder,
    env: { ...env, KRB5RCACHEDIR: folder },
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  const ended = once(child, 'exit')
  const server: Httpd = {
    port,
    pidFile: join(folder, 'httpd.pid'),
    get pid() {
      return child.exitCode === null && child.signalCode === null ? child.pid : undefined
    },
    async generation() {
      const response = await fetch(`http://127.0.0.1:${port}/generation?auto`, { signal: AbortSignal.timeout(5_000) })
      const [, generation] = /^ParentServerConfigGeneration: (\d+)$/m.exec(await response.text()) ?? []
      return Number(generation)
    },
    async [Symbol.asyncDispose]() {
      child.kill()
      await ended
    },
  }
  for (let tries = 0; !(await server.generation().catch(() => 0)); tries++) {
    if (tries === 200 || server.pid === undefined) {
      child.kill()
      throw new Error(`httpd did not come up: ${await readFile(join(folder, 'error.log'), 'utf8').catch(() => '')}`)
    }
    await pause(50)
  }
  return server
}
