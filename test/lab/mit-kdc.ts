import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { glob, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { freePort } from './free-port.ts'
import { program } from './skip.ts'

/** A principal to be made: its keys come from the password and the usual salt, realm and name. */
export interface MitPrincipal {
  readonly name: string
  readonly password: string
  /** As MIT calls them: `aes256-cts`. */
  readonly enctypes: readonly string[]
  /** More arguments of addprinc: `+requires_preauth`, `-expire yesterday`. */
  readonly flags?: readonly string[]
}

/** A running MIT KDC on loopback. */
export interface MitKdc extends AsyncDisposable {
  readonly realm: string
  readonly host: string
  readonly port: number
  /** Its own folder, mode 0700, removed at the end. */
  readonly state: string
  /** For its clients: this process's environment with KRB5_CONFIG set. */
  readonly env: NodeJS.ProcessEnv
  /** What it wrote to its log. */
  log(): Promise<string>
}

const HOST = '127.0.0.1'

async function run(name: string, args: readonly string[], env: NodeJS.ProcessEnv, input: string): Promise<void> {
  const child = spawn(program(name) ?? name, args, { env, timeout: 30_000 })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
  }
  child.stdin.end(input)
  const [code] = await once(child, 'close')
  if (code !== 0 || /^\w+: .*(?:error|invalid|not found)/im.test(said))
    throw new Error(`${name} ended with ${code}: ${said}`)
}

function configuration(realm: string, port: number, state: string): { krb5: string; kdc: string } {
  return {
    krb5: `[libdefaults]
  default_realm = ${realm}
  dns_lookup_kdc = false
  dns_canonicalize_hostname = false
  rdns = false
  allow_rc4 = true
  allow_weak_crypto = true
[realms]
  ${realm} = {
    kdc = ${HOST}:${port}
  }
`,
    kdc: `[kdcdefaults]
  kdc_listen = ${HOST}:${port}
  kdc_tcp_listen = ${HOST}:${port}
[realms]
  ${realm} = {
    database_name = ${join(state, 'principal')}
    key_stash_file = ${join(state, 'stash')}
    acl_file = ${join(state, 'acl')}
    max_life = 10h
    max_renewable_life = 7d
    master_key_type = aes256-cts
    supported_enctypes = aes256-cts:normal aes128-cts:normal aes256-sha2:normal aes128-sha2:normal rc4-hmac:normal
  }
[logging]
  kdc = FILE:${join(state, 'kdc.log')}
`,
  }
}

/** Started under a clock that is ahead by so many seconds, where `ahead` says so. */
async function clockOf(ahead: number): Promise<NodeJS.ProcessEnv> {
  if (ahead === 0) return {}
  for await (const library of glob('/usr/lib/*/faketime/libfaketime.so.1')) {
    return { LD_PRELOAD: library, FAKETIME: `${ahead < 0 ? '' : '+'}${ahead}` }
  }
  throw new Error('libfaketime is not installed')
}

async function listens(port: number): Promise<boolean> {
  const socket = connect(port, HOST)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** Ask `needs('krb5-kdc')` first; a second or so. It stops when disposed (`await using`). */
export async function startMitKdc(principals: readonly MitPrincipal[], ahead = 0): Promise<MitKdc> {
  const realm = `M${randomBytes(4).toString('hex').toUpperCase()}.TEST`
  const state = await mkdtemp(join(tmpdir(), 'gmsa-mit-kdc-'))
  const port = await freePort()
  const { krb5, kdc } = configuration(realm, port, state)
  await writeFile(join(state, 'krb5.conf'), krb5)
  await writeFile(join(state, 'kdc.conf'), kdc)
  const env = { ...process.env, KRB5_CONFIG: join(state, 'krb5.conf'), KRB5_KDC_PROFILE: join(state, 'kdc.conf') }
  let child: ChildProcess | undefined
  const stop = async () => {
    if (child && child.exitCode === null) {
      child.kill()
      await once(child, 'exit')
    }
    await rm(state, { recursive: true, force: true })
  }
  try {
    const master = randomBytes(16).toString('hex')
    await run('kdb5_util', ['create', '-s', '-r', realm], env, `${master}\n${master}\n`)
    // Passwords on standard input: an argument list can be seen by all.
    const lines = principals.flatMap(({ name, password, enctypes, flags = [] }) => {
      const salted = enctypes.map((each) => `${each}:normal`).join(',')
      return [`addprinc -e ${salted} ${flags.join(' ')} ${name}`, password, password]
    })
    await run('kadmin.local', ['-r', realm], env, `${lines.join('\n')}\n`)
    child = spawn(program('krb5kdc') ?? 'krb5kdc', ['-n', '-r', realm, '-P', join(state, 'pid')], {
      env: { ...env, ...(await clockOf(ahead)) },
      stdio: 'ignore',
    })
    for (let tries = 0; !(await listens(port)); tries++) {
      if (tries === 200 || child.exitCode !== null) throw new Error('the KDC did not come up')
      await setTimeout(50)
    }
  } catch (error) {
    await stop()
    throw error
  }
  return {
    realm,
    host: HOST,
    port,
    state,
    env,
    log: () => readFile(join(state, 'kdc.log'), 'utf8'),
    [Symbol.asyncDispose]: stop,
  }
}
