/**
 * Puts the real servers of the integration tests on a Debian machine: Samba as an AD domain controller, MIT Kerberos,
 * those that use an agent's files, Prometheus and Mono. It acts only as root, on Debian, with CI=true or
 * GMSA_TEST_INSTALL=1; nothing is started or left enabled, and the machine's own package sources stay as they are.
 */
import { spawn } from 'node:child_process'
import { createWriteStream, existsSync, readFileSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'

/** gMSAs exist on Samba's server side since 4.21. */
const sambaFloor = '2:4.21'
const sambaPackages = ['samba-ad-dc', 'samba-ad-provision', 'ldb-tools']
const otherPackages = [
  'apache2-bin',
  'bubblewrap',
  'curl',
  'dnsmasq-base',
  'faketime',
  'krb5-admin-server',
  'krb5-kdc',
  'krb5-user',
  'ldap-utils',
  'libapache2-mod-auth-gssapi',
  'mono-mcs',
  'mono-runtime',
  'openssh-client',
  'openssh-server',
  'openssl',
  'postgresql',
  'prometheus',
  'python3-gssapi',
  'python3-venv',
  'strace',
  'systemd',
]
/** What these packages would start at the next boot. */
const services = [
  'krb5-admin-server',
  'krb5-kdc',
  'nmbd',
  'postgresql',
  'prometheus',
  'samba-ad-dc',
  'smbd',
  'ssh',
  'winbind',
]
const policyFile = '/usr/sbin/policy-rc.d'
const minute = 60_000

/** What `setupDebian` did, for the reader: `done` is false where something is still missing. */
export interface DebianSetup {
  readonly done: boolean
  readonly said: string
}

interface Output {
  readonly code: number
  readonly stdout: string
}

/** Runs one command without a terminal, its output into `log`, and ends it after `limit` ms. */
export function run(command: string, args: readonly string[], log?: string, limit = minute): Promise<Output> {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' },
      timeout: limit,
    })
    const file = log ? createWriteStream(log, { flags: 'a' }) : undefined
    let stdout = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
      file?.write(text)
    })
    child.stderr.on('data', (bytes: Buffer) => file?.write(bytes))
    const end = (code: number) => {
      file?.end()
      resolve({ code, stdout })
    }
    child.on('error', () => end(127))
    child.on('close', (code) => end(code ?? 1))
  })
}

/** The running system's `ID` and `VERSION_CODENAME`, or undefined where there is no os-release file. */
export function debianRelease(file = '/etc/os-release'): { id: string; version: string; codename: string } | undefined {
  if (!existsSync(file)) return undefined
  const text = readFileSync(file, 'utf8')
  const field = (name: string) => new RegExp(`^${name}="?([^"\n]*)`, 'm').exec(text)?.[1] ?? ''
  return { id: field('ID'), version: field('VERSION_ID'), codename: field('VERSION_CODENAME') }
}

async function installedVersion(name: string): Promise<string | undefined> {
  const { code, stdout } = await run('dpkg-query', ['-W', '-f', `\${db:Status-Status} \${Version}`, name])
  const [status, version] = stdout.split(' ')
  return code === 0 && status === 'installed' ? version : undefined
}

async function recentEnough(version: string | undefined): Promise<boolean> {
  if (!version) return false
  return (await run('dpkg', ['--compare-versions', version, 'ge', sambaFloor])).code === 0
}

async function missingPackages(): Promise<{ samba: string[]; others: string[] }> {
  const absent = async (names: readonly string[]) => {
    const versions = await Promise.all(names.map(installedVersion))
    return names.filter((_, index) => versions[index] === undefined)
  }
  const [samba, others] = await Promise.all([absent(sambaPackages), absent(otherPackages)])
  if (samba.length === 0 && !(await recentEnough(await installedVersion('samba-ad-dc')))) samba.push(...sambaPackages)
  return { samba, others }
}

/** A private apt: the machine's Debian mirrors, and backports beside them, with lists and archives of our own. */
async function privateApt(folder: string, codename: string): Promise<readonly string[]> {
  const format = ['--format', '$(REPO_URI) $(RELEASE) $(COMPONENT)', 'Created-By: Packages']
  const { stdout } = await run('apt-get', ['indextargets', ...format])
  const wanted = [codename, `${codename}-updates`, `${codename}-security`, `${codename}-backports`]
  const rows = [...new Set(stdout.split('\n'))].map((row) => row.split(' '))
  const repositories = rows.filter(([, suite = '', component]) => wanted.includes(suite) && component === 'main')
  const uri = repositories.find(([, suite]) => suite === codename)?.[0] ?? 'http://deb.debian.org/debian/'
  const suites = new Map(repositories.map(([from = '', suite = '']) => [suite, from]))
  if (!suites.has(codename)) suites.set(codename, uri)
  if (!suites.has(`${codename}-backports`)) suites.set(`${codename}-backports`, uri)
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'
  const signed = existsSync(keyring) ? `Signed-By: ${keyring}\n` : ''
  const entry = ([suite, from]: [string, string]) =>
    `Types: deb\nURIs: ${from}\nSuites: ${suite}\nComponents: main\n${signed}`
  await writeFile(join(folder, 'debian.sources'), [...suites].map(entry).join('\n'))
  await Promise.all(['lists', 'debs'].map((name) => mkdir(join(folder, name, 'partial'), { recursive: true })))
  const settings = {
    'Dir::Etc::sourcelist': join(folder, 'debian.sources'),
    'Dir::Etc::sourceparts': '-',
    'Dir::State::lists': join(folder, 'lists'),
    'Dir::Cache::archives': join(folder, 'debs'),
    'Dir::Cache::pkgcache': '',
    'Dir::Cache::srcpkgcache': '',
    'DPkg::Lock::Timeout': '300',
    'Acquire::Retries': '2',
  }
  return Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])
}

/** `[]` where the archive's own Samba is recent enough, `-t …` where that of backports is, undefined where neither. */
async function sambaSuite(apt: readonly string[], codename: string): Promise<string[] | undefined> {
  for (const suite of [[], ['-t', `${codename}-backports`]]) {
    const { stdout } = await run('apt-cache', [...apt, ...suite, 'policy', 'samba-ad-dc'])
    const candidate = /Candidate: (\S+)/.exec(stdout)?.[1]
    if (candidate !== '(none)' && (await recentEnough(candidate))) return suite
  }
  return undefined
}

/** Holds signals back while `work` runs: half-installed packages and a policy left behind are worse than a late end. */
async function undisturbed<T>(work: () => Promise<T>): Promise<T> {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  let pending: (typeof signals)[number] | undefined
  const note = (signal: NodeJS.Signals) => {
    pending ??= signals.find((known) => known === signal)
  }
  for (const signal of signals) process.on(signal, note)
  try {
    return await work()
  } finally {
    for (const signal of signals) process.off(signal, note)
    if (pending) process.exit(128 + constants.signals[pending])
  }
}

const ownPolicy =
  '#!/bin/sh\n# Put here by the test set-up of gmsa-account-provider while it installs packages.\nexit 101\n'

/** Forbids service starts for the time of `work`; an existing policy that allows them is left alone and stops us. */
async function withoutStarts<T>(work: () => Promise<T>): Promise<T | undefined> {
  const found = await readFile(policyFile, 'utf8').catch(() => undefined)
  if (found !== undefined && found !== ownPolicy) {
    const forbids = (await run(policyFile, ['samba-ad-dc', 'start'])).code === 101
    return forbids ? work() : undefined
  }
  await writeFile(policyFile, ownPolicy, { mode: 0o755 })
  try {
    return await work()
  } finally {
    await rm(policyFile, { force: true })
  }
}

async function install(folder: string, codename: string, log: string): Promise<string[]> {
  const { samba, others } = await missingPackages()
  const apt = await privateApt(folder, codename)
  await run('apt-get', [...apt, '-qq', 'update'], log, 2 * minute)
  const problems: string[] = []
  const get = async (packages: readonly string[], suite: readonly string[]) => {
    if (packages.length === 0) return
    const flags = ['-y', '-qq', '--no-install-recommends']
    const { code } = await run('apt-get', [...apt, ...suite, ...flags, 'install', ...packages], log, 8 * minute)
    if (code !== 0) problems.push(`apt-get install ${packages.join(' ')} ended with code ${code}`)
  }
  const suite = samba.length > 0 ? await sambaSuite(apt, codename) : []
  if (suite) await get(samba, suite)
  else problems.push(`no Samba >= ${sambaFloor.slice(2)} in this archive or its backports`)
  await get(others, [])
  return problems
}

/** Units that were not on the machine before are not to start at its next boot either. */
async function disable(units: readonly string[], log: string): Promise<void> {
  if (units.length === 0) return
  const names = units.map((unit) => `${unit}.service`)
  const { code } = await run('systemctl', ['disable', ...names], log)
  if (code === 0) return
  // Without systemd the packages enable them all the same, by links that only a later systemd would read.
  const system = '/etc/systemd/system'
  const folders = await readdir(system).catch(() => [])
  const wants = folders.filter((folder) => folder.endsWith('.wants'))
  const links = wants.flatMap((folder) => names.map((name) => join(system, folder, name)))
  await Promise.all(links.map((link) => rm(link, { force: true })))
}

const present = (unit: string) =>
  ['/lib/systemd/system', '/usr/lib/systemd/system'].some((folder) => existsSync(join(folder, `${unit}.service`)))

/** Whether this machine was offered for installing what the tests need. */
export const isOffered = (): boolean => process.env['CI'] === 'true' || process.env['GMSA_TEST_INSTALL'] === '1'

/** Why this machine is none of ours to change, or undefined where it is. */
function refusal(): string | undefined {
  if (!isOffered()) return 'packages are installed only with CI=true or GMSA_TEST_INSTALL=1'
  if (process.getuid?.() !== 0) return 'packages are installed only as root'
  if (debianRelease()?.id !== 'debian') return 'packages are installed only on Debian'
  return undefined
}

async function installLogged(): Promise<DebianSetup> {
  const folder = await mkdtemp(join(tmpdir(), 'gmsa-apt-'))
  // apt fetches as the user _apt.
  await chmod(folder, 0o755)
  const log = join(folder, 'log')
  const before = new Set(services.filter(present))
  try {
    const problems = await withoutStarts(() => install(folder, debianRelease()?.codename ?? '', log))
    if (!problems) return { done: false, said: `${policyFile} of this machine lets services start: nothing installed` }
    const added = services.filter((unit) => present(unit) && !before.has(unit))
    await disable(added, log)
    if (problems.length === 0) return { done: true, said: 'installed' }
    const tail = (await readFile(log, 'utf8').catch(() => '')).trimEnd().split('\n').slice(-15)
    return { done: false, said: [...problems, ...tail].join('\n') }
  } catch (error) {
    return { done: false, said: `set-up failed: ${String(error)}` }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/**
 * Installs what is missing, within bounded time. Never rejects: a test that then misses its server says so itself.
 * `say` gets one line before anything is changed.
 */
export async function setupDebian(say: (line: string) => void): Promise<DebianSetup> {
  const no = refusal()
  if (no) return { done: false, said: no }
  const { samba, others } = await missingPackages()
  if (samba.length + others.length === 0) return { done: true, said: 'all there' }
  say(`installing ${[...samba, ...others].join(' ')}; no service is started or enabled`)
  return undisturbed(installLogged)
}

if (import.meta.main) {
  const { done, said } = await setupDebian((line) => console.error(line))
  console.error(said)
  process.exitCode = done ? 0 : 1
}
