import { spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, globSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { expect } from 'vitest'
import { debianRelease } from '../../scripts/setup-debian.ts'
import { goProgram, helmFolder } from '../../scripts/setup-helm.ts'
import { motoServer, openBao } from '../../scripts/setup-python.ts'

/** The real tools a test can ask for. */
export type Tool =
  | 'samba'
  | 'krb5'
  | 'krb5-kdc'
  | 'prometheus'
  | 'mono'
  | 'openssl'
  | 'curl'
  | 'ldap-utils'
  | 'gssapi'
  | 'dns'
  | 'openbao'
  | 'moto'
  | 'helm'
  | 'root'
  | 'mounts'
  | 'postgresql'
  | 'httpd'
  | 'sshd'
  | 'bubblewrap'
  | 'strace'
  | 'systemd'

const programs: Record<Tool, readonly string[]> = {
  samba: ['samba', 'samba-tool', 'ldbadd', 'ldbmodify', 'ldbsearch', 'faketime', 'openssl', 'unshare', 'setsid'],
  krb5: ['kinit', 'kvno', 'klist', 'ktutil'],
  'krb5-kdc': ['krb5kdc', 'kdb5_util', 'kadmin.local', 'faketime'],
  prometheus: ['prometheus', 'promtool'],
  mono: ['mono', 'mcs'],
  openssl: ['openssl'],
  curl: ['curl'],
  'ldap-utils': ['ldapsearch', 'ldapwhoami'],
  gssapi: ['python3'],
  dns: ['dnsmasq'],
  openbao: ['bao'],
  moto: ['moto_server'],
  helm: ['helm'],
  root: [],
  postgresql: ['psql'],
  httpd: ['apache2', 'curl'],
  sshd: ['sshd', 'ssh', 'ssh-keygen', 'unshare', 'mount', 'hostname'],
  bubblewrap: ['bwrap', 'setpriv'],
  strace: ['strace'],
  systemd: ['systemd-analyze', 'systemd-notify', 'python3'],
  mounts: ['unshare', 'mount'],
}

const ownFolders = [helmFolder, ...[openBao, motoServer].map(dirname)]

/** The file of a program where the set-up puts what it builds, on PATH, in the system's own folders, or undefined. */
export function program(name: string): string | undefined {
  const path = (process.env['PATH'] ?? '').split(delimiter)
  const folders = [...ownFolders, ...path, '/usr/sbin', '/usr/bin', '/sbin', '/bin']
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file))
}

function sambaProblem(): string | undefined {
  if (process.getuid?.() !== 0) return 'a domain controller needs root'
  const [, major, minor] =
    /Version (\d+)\.(\d+)/.exec(spawnSync(program('samba') ?? 'samba', ['--version']).stdout.toString()) ?? []
  if (Number(major) * 100 + Number(minor) < 421) return `Samba ${major}.${minor} is older than 4.21`
  return mountsProblem()
}

function mountsProblem(): string | undefined {
  const { status } = spawnSync('unshare', ['-m', 'true'])
  return status === 0 ? undefined : 'this machine lets nobody make a mount namespace'
}

const rootProblem = () => (process.getuid?.() === 0 ? undefined : 'only root can become another user')

/** The system's own Python: another one that comes first in PATH does not see Debian's modules. */
function gssapiProblem(): string | undefined {
  return spawnSync('/usr/bin/python3', ['-c', 'import gssapi']).status === 0 ? undefined : 'python3-gssapi not found'
}

/** Debian keeps the programs of each version in a folder of their own. */
export const postgresFolder = (): string | undefined => globSync('/usr/lib/postgresql/*/bin').toSorted().at(-1)
const postgresProblem = () => (postgresFolder() === undefined ? 'no PostgreSQL server found' : rootProblem())

/** Where Debian's Apache httpd has its modules. */
export const httpdModules = '/usr/lib/apache2/modules'
function httpdProblem(): string | undefined {
  const module = join(httpdModules, 'mod_auth_gssapi.so')
  return existsSync(module) ? rootProblem() : 'mod_auth_gssapi not found'
}

/** Containers may forbid what these two need. */
const works = (why: string, command: string, ...args: string[]) =>
  spawnSync(command, args).status === 0 ? undefined : why
const straceProblem = () => works('this machine lets nobody trace a program', 'strace', '-o', '/dev/null', 'true')
const BOX = ['--ro-bind', '/', '/', '--proc', '/proc', '--dev', '/dev']
const bubblewrapProblem = () =>
  rootProblem() ?? works('this machine lets nobody make such a box', 'bwrap', '--unshare-pid', ...BOX, 'true')

const PROBLEMS: Partial<Record<Tool, () => string | undefined>> = {
  samba: sambaProblem,
  gssapi: gssapiProblem,
  mounts: mountsProblem,
  root: rootProblem,
  postgresql: postgresProblem,
  httpd: httpdProblem,
  sshd: mountsProblem,
  bubblewrap: bubblewrapProblem,
  strace: straceProblem,
}

/** Why `tool` can't be used here, or undefined where it can. */
export function lack(tool: Tool): string | undefined {
  const missing = programs[tool].filter((name) => !program(name))
  if (missing.length > 0) {
    const why = tool === 'helm' && !goProgram() ? ', and no Go toolchain to build it with' : ''
    return `${missing.join(', ')} not found${why}`
  }
  return PROBLEMS[tool]?.()
}

/** Where the tool has to be: the set-up has just installed it. Helm it builds only where there is Go. */
const mustHave = (tool: Tool) => {
  if (tool === 'helm' && !goProgram()) return false
  const release = debianRelease()
  return process.env['CI'] === 'true' && release?.id === 'debian' && ['12', '13'].includes(release.version)
}

/**
 * Whether this machine has all of `tools`; made for `describe.skipIf(!needs('samba', 'krb5'))`. What is missing is
 * noted with its reason for the last lines of `npm test`. Throws on a CI machine with Debian 12 or 13, where the
 * set-up installs them all (helm: where there is Go) and a skip would hide something.
 */
export function needs(...tools: Tool[]): boolean {
  const reasons = tools.flatMap((tool) => {
    const reason = lack(tool)
    if (reason && mustHave(tool)) throw new Error(`${tool} must be on this machine: ${reason}`)
    return reason ? [`${tool}: ${reason}`] : []
  })
  if (reasons.length === 0) return true
  const notes = process.env['GMSA_SKIP_NOTES']
  const file = expect.getState().testPath
  if (notes) appendFileSync(notes, `${JSON.stringify({ file, reason: reasons.join('; ') })}\n`)
  else console.warn(`skipped in ${file}: ${reasons.join('; ')}`)
  return false
}
