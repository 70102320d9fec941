import { dirname, resolve } from 'node:path'
import { parseDocument } from 'yaml'
import { GmsaError } from '../../base/errors.ts'
import { membersOf } from '../http.ts'

/** A kubeconfig as it stands on disk. */
export interface Kubeconfig {
  readonly path: string
  readonly text: string
}

/** What a kubeconfig gives itself, or the absolute path of the file that it names for it. */
export type Given = { readonly text: string } | { readonly file: string }

/** The cluster and the user of one context. */
export interface KubeContext {
  readonly server: string
  /** `tls-server-name`: what the server's certificate is for, where that is not the name in `server`. */
  readonly serverName?: string
  readonly ca?: Given
  /** With `key`, or neither is there. */
  readonly certificate?: Given
  readonly key?: Given
  readonly token?: Given
}

/**
 * What is refused, and why. Each of these would run a program, skip the check of the server, go by way of another
 * machine, or stand for a user whose rights nobody sees in the file.
 */
const REFUSED: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  clusters: {
    'insecure-skip-tls-verify': 'the server is always verified: give its CA in certificate-authority',
    'proxy-url': 'no proxy is used',
  },
  users: {
    exec: 'no program is run to log on: give token, tokenFile or a client certificate',
    'auth-provider': 'no plug-in is run to log on: give token, tokenFile or a client certificate',
    username: 'the API has no log-on by password: give token, tokenFile or a client certificate',
    password: 'the API has no log-on by password: give token, tokenFile or a client certificate',
    ...Object.fromEntries(
      ['as', 'as-uid', 'as-groups', 'as-user-extra'].map((member) => [
        member,
        'nobody is impersonated: give the right to the user itself',
      ]),
    ),
  },
}

/** In which member of an entry the rest stands. */
const INNER = { clusters: 'cluster', contexts: 'context', users: 'user' } as const
type List = keyof typeof INNER

/** Bytes in base64, with or without line breaks, as PEM is put into a kubeconfig. */
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

interface Document {
  readonly path: string
  readonly members: Readonly<Record<string, unknown>>
}

interface Entry {
  /** As `kubectl config` names it, behind the file's path: `users.NAME`. */
  readonly where: string
  /** What relative paths in it are relative to. */
  readonly directory: string
  readonly members: Readonly<Record<string, unknown>>
  readonly report: (member: string, problem: string) => void
}

/**
 * The context `chosen`, or else the first `current-context`, of kubeconfigs merged as kubectl does: of entries with
 * one name the first counts. Throws CONFIG_INVALID with all problems, each with file and path, and no value.
 */
export function readContext(kubeconfigs: readonly Kubeconfig[], chosen?: string): KubeContext {
  const documents = kubeconfigs.map(parse)
  const name = chosen ?? documents.map(({ members }) => members['current-context']).find(isName)
  if (name === undefined) throw invalid([`${pathsOf(documents)}: current-context: expected a name, or one in context`])
  const problems: string[] = []
  const context = findEntry(documents, 'contexts', name, problems)
  const cluster = findEntry(documents, 'clusters', textIn(context, 'cluster', true), problems)
  const user = findEntry(documents, 'users', textIn(context, 'user', true), problems)
  const found = { ...clusterOf(cluster), ...userOf(user) }
  if (problems.length > 0) throw invalid(problems)
  return found
}

function parse({ path, text }: Kubeconfig): Document {
  const members = parseQuietly(text)
  if (!members) throw invalid([`${path}: expected YAML or JSON`])
  return { path, members }
}

/** A parser's own message would quote the text. It is recursive, too: what nests too deeply exhausts the stack. */
function parseQuietly(text: string): Document['members'] | undefined {
  try {
    // As kubectl reads it, a key given twice is no error; looking for them takes time with the square of the keys.
    const document = parseDocument(text, { prettyErrors: false, uniqueKeys: false })
    if (document.errors.length > 0 || document.warnings.length > 0) return undefined
    return membersOf(document.toJS({ maxAliasCount: 0 }))
  } catch {
    return undefined
  }
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

/** The entry of that name, or an empty one in its place, and a problem. */
function findEntry(documents: readonly Document[], list: List, name: string | undefined, problems: string[]): Entry {
  for (const { path, members } of documents) {
    const entries: unknown[] = Array.isArray(members[list]) ? members[list] : []
    const entry = entries.map(membersOf).find((each) => each['name'] === name)
    if (name === undefined || entry === undefined) continue
    const where = `${path}: ${list}.${name}`
    const report = (member: string, problem: string): void => void problems.push(`${where}.${member}: ${problem}`)
    return checkRefused({ where, directory: dirname(path), members: membersOf(entry[INNER[list]]), report }, list)
  }
  if (name !== undefined) problems.push(`${pathsOf(documents)}: ${list}.${name}: there is none`)
  return { where: '', directory: '', members: {}, report: () => {} }
}

function checkRefused(entry: Entry, list: List): Entry {
  for (const [member, why] of Object.entries(REFUSED[list] ?? {})) {
    if (isGiven(entry.members[member])) entry.report(member, `refused: ${why}`)
  }
  return entry
}

/** Whether a member says anything: kubectl leaves out what is empty or false, other tools write it. */
function isGiven(value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === '') return false
  return typeof value !== 'object' || Object.keys(value).length > 0
}

function clusterOf(cluster: Entry): Pick<KubeContext, 'server' | 'serverName' | 'ca'> {
  const serverName = textIn(cluster, 'tls-server-name')
  const ca = givenIn(cluster, 'certificate-authority')
  return {
    server: textIn(cluster, 'server', true) ?? '',
    ...(serverName !== undefined && { serverName }),
    ...(ca && { ca }),
  }
}

function userOf(user: Entry): Pick<KubeContext, 'certificate' | 'key' | 'token'> {
  const certificate = givenIn(user, 'client-certificate')
  const key = givenIn(user, 'client-key')
  const inline = textIn(user, 'token')
  const file = textIn(user, 'tokenFile')
  // With both the file counts, as its token is the one that is renewed.
  const token = file !== undefined ? { file: resolve(user.directory, file) } : inline && { text: inline }
  if (certificate && !key) user.report('client-key', 'required with client-certificate')
  if (!certificate && !token) user.report('token', 'expected this, tokenFile, or client-certificate with client-key')
  return { ...(certificate && key && { certificate, key }), ...(token && { token }) }
}

function givenIn(entry: Entry, member: string): Given | undefined {
  const data = textIn(entry, `${member}-data`)?.replace(/\s+/g, '')
  if (data !== undefined) {
    if (!BASE64.test(data)) entry.report(`${member}-data`, 'expected base64')
    return { text: Buffer.from(data, 'base64').toString('latin1') }
  }
  const file = textIn(entry, member)
  return file === undefined ? undefined : { file: resolve(entry.directory, file) }
}

function textIn({ members, where, report }: Entry, member: string, required = false): string | undefined {
  const value = members[member] ?? ''
  if (typeof value !== 'string') report(member, 'expected text')
  else if (value !== '') return value
  else if (required && where !== '') report(member, 'required')
  return undefined
}

function pathsOf(documents: readonly Document[]): string {
  return documents.map(({ path }) => path).join(', ')
}

function invalid(problems: readonly string[]): GmsaError {
  return new GmsaError('CONFIG_INVALID', problems.join('\n  '))
}
