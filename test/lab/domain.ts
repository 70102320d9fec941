import { spawn } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, glob, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** How a lab domain is made; everything has a default. */
export interface DomainOptions {
  /** Kerberos realm in upper case. Default `AD.TEST`; `random` for one of its own. */
  readonly realm?: string
  /** The DC's clock against this machine's at the start, as faketime takes it (`-3d`). Default `+0`. */
  readonly startOffset?: string
  /** Whether to create users and gMSAs (test/lab/ad/seed.sh). Default true. */
  readonly seed?: boolean
}

/** An account of the lab and its password. */
export interface Login {
  readonly username: string
  readonly password: string
}

/** Result of one run of a program. */
export interface Run {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** State of a user account; what is left out becomes the normal state again. */
export interface AccountState {
  readonly disabled?: boolean
  readonly expired?: boolean
  readonly mustChange?: boolean
  readonly locked?: boolean
}

/** A running Active Directory domain (Samba) of one or two DCs on a loopback network of its own. */
export interface Domain extends AsyncDisposable {
  readonly realm: string
  /** DNS name of the domain, lower case. */
  readonly dns: string
  /** NetBIOS name of the domain. */
  readonly netbios: string
  /** Distinguished name of the domain, `DC=ad,DC=test`. */
  readonly base: string
  readonly ip: string
  readonly ldapsUrl: string
  /** Name in the DC's certificate, beside its address. */
  readonly serverName: string
  /** File of the CA that signed the DC's certificate. */
  readonly ca: string
  /** The lab's own folder, mode 0700, removed at the end; tests may put files there. */
  readonly state: string
  /** For child processes: this process's environment with KRB5_CONFIG and LDAPTLS_CACERT set. */
  readonly env: NodeJS.ProcessEnv
  readonly admin: Login
  /** May read the passwords of web01$ and sql01$. */
  readonly ccg: Login
  /** An ordinary user that may read no gMSA. */
  readonly outsider: Login
  /** Runs kinit under the DC's clock; the password goes to its standard input, the ticket to `ccache`. */
  kinit(user: string, password: string): Promise<Run & { readonly ccache: string }>
  /** Runs a program with `env`, under the DC's clock. */
  run(command: string, args: readonly string[], input?: string, env?: NodeJS.ProcessEnv): Promise<Run>
  setAccount(name: string, state: AccountState): Promise<void>
  setPassword(name: string, password: string): Promise<void>
  /** Applies LDIF as the system; `@BASE@` in it stands for `base`. */
  modify(ldif: string): Promise<void>
  /** Moves the DC's clock at once (`+21h`), or stops it at a time (`2026-11-23 20:00:00`); only ever forward. */
  clock(offset: string): Promise<void>
  /** The domain's KDS root keys with their secret, in the words of one of these tools. */
  rootKeys(tool: 'ldapsearch' | 'ldbsearch' | 'samba-tool'): Promise<string>
  /** Adds a KDS root key that is usable from `time` on, in ms since 1970. */
  addRootKey(time: number): Promise<void>
  /** Writes the keytab of an account as the controller's own tool makes it. */
  exportKeytab(samAccountName: string, file: string): Promise<void>
  /** Joins and starts a second DC and answers with its address. */
  secondDc(): Promise<string>
}

const scripts = join(import.meta.dirname, 'ad')
/** Normal values of what `setAccount` changes: [MS-ADA1] accountExpires, [MS-ADA3] pwdLastSet and userAccountControl. */
const never = '9223372036854775807'
/** FILETIME of 1601-01-02, long over. */
const longAgo = '864000000000'

function execute(
  command: string,
  args: readonly string[],
  options: { env: NodeJS.ProcessEnv; input?: string | undefined; limit?: number },
): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env: options.env, timeout: options.limit ?? 60_000, killSignal: 'SIGKILL' })
    const text = { stdout: '', stderr: '' }
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text.stdout += chunk
    })
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      text.stderr += chunk
    })
    child.on('error', reject)
    child.on('close', (code) => resolve({ code: code ?? 1, ...text }))
    // A program that ends without reading its input is no failure of ours.
    child.stdin.on('error', () => {})
    child.stdin.end(options.input ?? '')
  })
}

/** Whether nobody listens on the LDAPS port of `ip` yet. */
function free(ip: string): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.on('error', () => resolve(false))
    server.listen(636, ip, () => server.close(() => resolve(true)))
  })
}

async function freeNetwork(): Promise<string> {
  for (let attempt = 0; attempt < 20; attempt++) {
    const net = `127.${randomInt(16, 250)}.${randomInt(0, 256)}`
    if ((await free(`${net}.10`)) && (await free(`${net}.11`))) return net
  }
  throw new Error('no free loopback network for a domain controller')
}

/** Letters of both cases, digits and a sign, so that no password policy minds; nothing a shell would interpret. */
const password = () => `Aa1.${randomBytes(18).toString('base64url')}`

/** Passwords with which one domain is made. */
interface Passwords {
  readonly admin: string
  readonly ccg: string
  readonly outsider: string
}

/** Writes the lab's settings where its scripts read them: passwords are in no argument list and no environment. */
async function writeSettings(state: string, realm: string, net: string, offset: string, passwords: Passwords) {
  const settings = {
    AD_REALM: realm,
    AD_DOMAIN: netbiosName(realm),
    AD_NET: net,
    AD_START_OFFSET: offset,
    AD_ADMIN_PASSWORD: passwords.admin,
    AD_CCG_PASSWORD: passwords.ccg,
    AD_OUTSIDER_PASSWORD: passwords.outsider,
  }
  const lines = Object.entries(settings).map(([name, value]) => `${name}='${value}'\n`)
  await writeFile(join(state, 'env'), lines.join(''), { mode: 0o600 })
}

const netbiosName = (realm: string) => realm.split('.')[0] ?? realm

async function clockOf(state: string): Promise<string> {
  return (await readFile(join(state, 'clock'), 'utf8').catch(() => '+0')).trim()
}

/** libfaketime of Debian's package, in the folder of this machine's architecture. */
export async function fakeTimeLibrary(): Promise<string> {
  for await (const found of glob('/usr/lib/*/faketime/libfaketime.so.1')) return found
  throw new Error('libfaketime is not installed')
}

/** Runs a script of the lab in `state` and answers with what it printed; throws with what it said when it fails. */
async function script(state: string, name: string, args: readonly string[] = [], input?: string): Promise<string> {
  const env = { ...process.env, AD_STATE: state }
  const { code, stdout, stderr } = await execute('bash', [join(scripts, name), ...args], { env, input, limit: 180_000 })
  if (code !== 0) throw new Error(`${name} ended with code ${code}: ${stderr || stdout}`)
  return stdout
}

/** Stops the lab when this process has gone, however it went: the guard is a process of its own. */
function guard(state: string): void {
  const child = spawn('bash', [join(scripts, 'down.sh'), '--after', String(process.pid)], {
    env: { ...process.env, AD_STATE: state },
    detached: true,
    stdio: 'ignore',
  })
  child.unref()
}

async function bringUp(
  realm: string,
  options: DomainOptions,
): Promise<{ state: string; net: string; secrets: Passwords }> {
  const secrets = { admin: password(), ccg: password(), outsider: password() }
  for (let attempt = 1; ; attempt++) {
    const net = await freeNetwork()
    const state = await mkdtemp(join(tmpdir(), 'gmsa-domain-'))
    await chmod(state, 0o700)
    await writeSettings(state, realm, net, options.startOffset ?? '+0', secrets)
    guard(state)
    try {
      await script(state, 'up.sh')
      if (options.seed !== false) await script(state, 'seed.sh')
      return { state, net, secrets }
    } catch (error) {
      await stop(state)
      if (attempt === 2) throw error
    }
  }
}

async function stop(state: string): Promise<void> {
  if (!existsSync(state)) return
  try {
    await script(state, 'down.sh')
  } finally {
    await rm(state, { recursive: true, force: true })
  }
}

function accountLdif(name: string, { disabled, expired, mustChange, locked }: AccountState): string {
  const replaced = {
    // 512 is NORMAL_ACCOUNT, 2 is ACCOUNTDISABLE ([MS-ADTS] 2.2.16).
    userAccountControl: disabled ? 514 : 512,
    accountExpires: expired ? longAgo : never,
    // 0: must change at the next log-on; -1: changed just now.
    pwdLastSet: mustChange ? 0 : -1,
    lockoutTime: locked ? fileTimeNow() : 0,
  }
  const changes = Object.entries(replaced).map(
    ([attribute, value]) => `replace: ${attribute}\n${attribute}: ${value}\n`,
  )
  return `dn: CN=${name},CN=Users,@BASE@\nchangetype: modify\n${changes.join('-\n')}`
}

/** Ticks of 100 ns since 1601. */
const fileTimeNow = () => (BigInt(Date.now()) + 11_644_473_600_000n) * 10_000n

/**
 * Starts a domain controller; about five seconds, twenty on a busy machine. Ask `needs('samba')` first. It stops when
 * disposed (`await using`), and at the latest when this process ends.
 */
export async function startDomain(options: DomainOptions = {}): Promise<Domain> {
  const own = `L${randomBytes(4).toString('hex').toUpperCase()}.TEST`
  const realm = options.realm === 'random' ? own : (options.realm ?? 'AD.TEST')
  const { state, net, secrets } = await bringUp(realm, options)
  const dns = realm.toLowerCase()
  const ca = join(state, 'ca.crt')
  const env = { ...process.env, KRB5_CONFIG: join(state, 'krb5.conf'), LDAPTLS_CACERT: ca }
  let tickets = 0
  const run: Domain['run'] = async (command, args, input, extra) => {
    // Not by the faketime command: its semaphores are named after process ids, and those of killed ones get in the way.
    const underClock = { LD_PRELOAD: await fakeTimeLibrary(), FAKETIME: await clockOf(state) }
    return execute(command, args, { env: { ...env, ...underClock, ...extra }, input })
  }
  const modify = async (ldif: string) => void (await script(state, 'modify.sh', [], ldif))
  return {
    realm,
    dns,
    netbios: netbiosName(realm),
    base: `DC=${dns.replaceAll('.', ',DC=')}`,
    ip: `${net}.10`,
    ldapsUrl: `ldaps://${net}.10`,
    serverName: `dc1.${dns}`,
    ca,
    state,
    env,
    admin: { username: 'Administrator', password: secrets.admin },
    ccg: { username: 'svc-ccg', password: secrets.ccg },
    outsider: { username: 'outsider', password: secrets.outsider },
    async kinit(user, secret) {
      tickets += 1
      const ccache = `FILE:${join(state, `ccache-${tickets}`)}`
      return { ...(await run('kinit', ['-c', ccache, `${user}@${realm}`], `${secret}\n`)), ccache }
    },
    run,
    modify,
    setAccount: (name, account) => modify(accountLdif(name, account)),
    setPassword(name, secret) {
      const value = Buffer.from(`"${secret}"`, 'utf16le').toString('base64')
      return modify(`dn: CN=${name},CN=Users,@BASE@\nchangetype: modify\nreplace: unicodePwd\nunicodePwd:: ${value}\n`)
    },
    clock: async (offset) => void (await script(state, 'clock.sh', [offset])),
    async rootKeys(tool) {
      if (tool !== 'ldapsearch') return script(state, 'root-keys.sh', [tool])
      const passwordFile = join(state, 'admin-password')
      await writeFile(passwordFile, secrets.admin, { mode: 0o600 })
      const asAdmin = ['-x', '-D', `Administrator@${dns}`, '-y', passwordFile, '-H', `ldaps://${net}.10`]
      const base = `CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services,CN=Configuration,DC=${dns.replaceAll('.', ',DC=')}`
      // Not under the DC's clock, in which its certificate need not be valid.
      const asked = await execute('ldapsearch', [...asAdmin, '-b', base, '(objectClass=msKds-ProvRootKey)'], { env })
      if (asked.code !== 0) throw new Error(`ldapsearch ended with code ${asked.code}: ${asked.stderr}`)
      return asked.stdout
    },
    addRootKey: async (time) => void (await script(state, 'root-keys.sh', ['add', new Date(time).toISOString()])),
    exportKeytab: async (name, file) => void (await script(state, 'export-keytab.sh', [name, file])),
    async secondDc() {
      await script(state, 'dc2.sh')
      return `${net}.11`
    },
    [Symbol.asyncDispose]: () => stop(state),
  }
}
