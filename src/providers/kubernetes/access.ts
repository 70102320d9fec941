import { isIPv6 } from 'node:net'
import { basename, delimiter, dirname, join, resolve } from 'node:path'
import { GmsaError } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import { Secret } from '../../base/secret.ts'
import type { HttpTls } from '../http.ts'
import { readPem } from '../pem-file.ts'
import { SecretFiles } from '../secret-files.ts'
import { type Given, isBearerToken, type KubeContext, type Kubeconfig, readContext } from './kubeconfig.ts'

/** Where the API server is, how to know it, and who we are. */
export interface Access {
  readonly address: string
  readonly tls: HttpTls
  readonly token?: Secret
}

/** Reads all of it anew: every file may change. Rejects with a GmsaError about the file that is at fault. */
export type FindAccess = (signal: AbortSignal) => Promise<Access>

export interface AccessOptions {
  readonly kubeconfig?: string
  readonly context?: string
  readonly allowReadable?: boolean
}

/** What a test replaces. */
export interface Surroundings {
  readonly env?: NodeJS.ProcessEnv
  /** The folder that Kubernetes mounts into each pod. */
  readonly serviceAccount?: string
}

/** Where every pod finds `token` and `ca.crt`. */
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'
const NOT_MOUNTED = 'the service account is not mounted: set automountServiceAccountToken: true for the pod'
/** A kubeconfig of many clusters, with certificates in it. */
const MAX_KUBECONFIG = 512 * 1024

/**
 * As kubectl looks for it: the option `kubeconfig`, the files of the variable KUBECONFIG, the pod's service account.
 * Never `~/.kube/config`: a service must not depend on who started it. Throws CONFIG_INVALID where there is none.
 */
export function findAccess(
  options: AccessOptions,
  log: Log,
  { env = process.env, serviceAccount = SERVICE_ACCOUNT }: Surroundings = {},
): FindAccess {
  const files = openFiles(options.allowReadable ?? false, log)
  const listed = (env['KUBECONFIG'] ?? '')
    .split(delimiter)
    .filter((path) => path !== '')
    .map((path) => resolve(path))
  if (options.kubeconfig !== undefined) return byKubeconfig(files, [options.kubeconfig], options.context)
  if (listed.length > 0) return byKubeconfig(files, listed, options.context)
  if (options.context !== undefined) throw new GmsaError('CONFIG_INVALID', 'context: expected kubeconfig beside it')
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = env
  if (!host || !port) {
    throw new GmsaError('CONFIG_INVALID', 'this is no pod of a cluster, and there is no kubeconfig', {
      hint: 'name the file in kubeconfig, or in the variable KUBECONFIG',
    })
  }
  const address = `https://${isIPv6(host) ? `[${host}]` : host}:${port}`
  return async (signal) => {
    const ca = await files.public(join(serviceAccount, 'ca.crt'), NOT_MOUNTED)
    const token = await files.token(join(serviceAccount, 'token'), signal, NOT_MOUNTED)
    return { address, tls: { ca }, token }
  }
}

/** Of several files those that are missing are passed over, as kubectl does, but not all of them. */
function byKubeconfig(files: Files, paths: readonly string[], chosen: string | undefined): FindAccess {
  async function context(signal: AbortSignal): Promise<KubeContext> {
    const kubeconfigs: Kubeconfig[] = []
    for (const path of paths) {
      const text = await files.secret(path, signal)
      if (text !== undefined) kubeconfigs.push({ path, text })
    }
    if (kubeconfigs.length === 0) throw missing(paths.join(', '))
    return readContext(kubeconfigs, chosen)
  }

  return async (signal) => {
    const { server, serverName, ca, certificate, key, token } = await context(signal)
    return {
      address: server,
      tls: {
        ...(ca && { ca: await publicText(files, ca) }),
        ...(certificate && { cert: await publicText(files, certificate) }),
        ...(key && { key: 'text' in key ? key.text : await files.required(key.file, signal) }),
        ...(serverName !== undefined && { servername: serverName }),
      },
      ...(token && { token: 'text' in token ? Secret.fromText(token.text) : await files.token(token.file, signal) }),
    }
  }
}

/** Readers of files. `hint`: what to do where there is none. */
interface Files {
  /** A file without secrets. */
  public(path: string, hint?: string): Promise<string>
  /** One with, under the rules for such files; undefined where there is none. */
  secret(path: string, signal: AbortSignal): Promise<string | undefined>
  required(path: string, signal: AbortSignal, hint?: string): Promise<string>
  token(path: string, signal: AbortSignal, hint?: string): Promise<Secret>
}

function openFiles(allowReadable: boolean, log: Log): Files {
  const files = new SecretFiles('/', allowReadable, log, MAX_KUBECONFIG)
  const secret: Files['secret'] = (path, signal) => files.read(dirname(path), basename(path), signal)
  async function required(path: string, signal: AbortSignal, hint?: string): Promise<string> {
    const text = await secret(path, signal)
    if (text === undefined) throw missing(path, hint)
    return text
  }
  return {
    public: (path, hint) => readPem(path, hint === undefined ? {} : { hint }),
    secret,
    required,
    async token(path, signal, hint) {
      const token = (await required(path, signal, hint)).trim()
      if (!isBearerToken(token)) throw new GmsaError('STORE_UNAVAILABLE', `${path}: expected a bearer token`)
      return Secret.fromText(token)
    },
  }
}

async function publicText(files: Files, given: Given): Promise<string> {
  return 'text' in given ? given.text : files.public(given.file)
}

function missing(path: string, hint?: string): GmsaError {
  return new GmsaError('STORE_UNAVAILABLE', `${path}: no such file`, hint === undefined ? {} : { hint })
}
