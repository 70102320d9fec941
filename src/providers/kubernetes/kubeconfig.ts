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

const LOG_ON = 'give token, tokenFile or a client certificate'
const NO_IMPERSONATION = 'nobody is impersonated: give the right to the user itself'
/**
 * What is refused, and why. Each of these would run a program, skip the check of the server, go by way of another
 * machine, or stand for a user whose rights nobody sees in the file.
 */
const REFUSED: Readonly<Record<List, Readonly<Record<string, string>>>> = {
  contexts: {},
  clusters: {
    'insecure-skip-tls-verify': 'the server is always verified: give its CA in certificate-authority',
    'proxy-url': 'no proxy is used',
  },
  users: {
    exec: `no program is run to log on: ${LOG_ON}`,
    'auth-provider': `no plug-in is run to log on: ${LOG_ON}`,
    username: `the API has no log-on by password: ${LOG_ON}`,
    password: `the API has no log-on by password: ${LOG_ON}`,
    as: NO_IMPERSONATION,
    'as-uid': NO_IMPERSONATION,
    'as-groups': NO_IMPERSONATION,
    'as-user-extra': NO_IMPERSONATION,
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
  /** What relative paths in it are relative to. */
  readonly directory: string
  readonly members: Readonly<Record<string, unknown>>
  /** Notes a problem, with the file and the path as `kubectl config` has it: `users.NAME.exec`. */
  readonly report: (member: string, problem: string) => void
}

const NO_ENTRY: Entry = { directory: '', members: {}, report: () => {} }

/**
 * The context `chosen`, or else the first `current-context`, of kubeconfigs merged as kubectl does: of entries with
 * one name the first counts. Throws CONFIG_INVALID with all problems, each with file and path, and no value.
 */
export function readContext(kubeconfigs: readonly Kubeconfig[], chosen?: string): KubeContext {
  const documents = kubeconfigs.map(parse)
  const name = chosen ?? documents.map(({ members }) => members['current-context']).find(isName)
  if (name === undefined)
    throw invalid([`${pathsOf(documents)}: current-context: expected a name, or the option context`])
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
  if (!members) throw invalid([`${path}: expected YAML or JSON, without aliases and tags`])
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

/** What can be sent as one (RFC 6750 2.1). */
export function isBearerToken(text: string): boolean {
  return /^[A-Za-z0-9._~+/-]+=*$/.test(text)
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

/** The entry of that name, or an empty one in its place, and a problem unless the name itself is missing. */
function findEntry(documents: readonly Document[], list: List, name: string | undefined, problems: string[]): Entry {
  if (name === undefined) return NO_ENTRY
  for (const { path, members } of documents) {
    const entries: unknown[] = Array.isArray(members[list]) ? members[list] : []
    const entry = entries.map(membersOf).find((each) => each['name'] === name)
    if (!entry) continue
    const report = (member: string, problem: string): void =>
      void problems.push(`${path}: ${list}.${name}.${member}: ${problem}`)
    const inner = membersOf(entry[INNER[list]])
    for (const [member, why] of Object.entries(REFUSED[list])) {
      if (isGiven(inner[member])) report(member, `refused: ${why}`)
    }
    return { directory: dirname(path), members: inner, report }
  }
  problems.push(`${pathsOf(documents)}: ${list}.${name}: there is none`)
  return NO_ENTRY
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
  if (inline !== undefined && !isBearerToken(inline)) user.report('token', 'expected a bearer token')
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

function textIn({ members, report }: Entry, member: string, required = false): string | undefined {
  const value = members[member] ?? ''
  if (typeof value !== 'string') report(member, 'expected text')
  else if (value !== '') return value
  else if (required) report(member, 'required')
  return undefined
}

function pathsOf(documents: readonly Document[]): string {
  return documents.map(({ path }) => path).join(', ')
}

function invalid(problems: readonly string[]): GmsaError {
  return new GmsaError('CONFIG_INVALID', problems.join('\n  '))
}
