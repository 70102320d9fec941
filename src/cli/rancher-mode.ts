import { posix } from 'node:path'
import { NAMESPACE_PATTERN } from '../gmsa/account-name.ts'
import { findConfigFile, type LoadOptions, type LoadResult, loadConfig, type WrittenConfig } from './config.ts'
import type { Override } from './config-environment.ts'
import type { Problem } from './config-problem.ts'
import { GRAMMARS } from './config-schema.ts'

/** The folder in which Rancher's charts, manifests and plug-in expect one folder per namespace. */
export const RANCHER_DIRECTORY = '/var/lib/rancher/gmsa'
const SOURCE = 'Rancher mode'

/** The flags of Rancher's account provider, and `--secret-names`. */
export interface RancherFlags {
  readonly namespace?: string | undefined
  readonly kubeconfig?: string | undefined
  readonly skipArtifacts?: boolean | undefined
  readonly disableMtls?: boolean | undefined
  /** Names with commas between them. */
  readonly secretNames?: string | undefined
  readonly debug?: boolean | undefined
  readonly debugLevel?: string | undefined
}

export type RancherResult =
  | { readonly ok: true; readonly written: WrittenConfig; readonly warnings: readonly string[] }
  | { readonly ok: false; readonly problems: readonly Problem[] }

/**
 * The configuration that Rancher's flags and variables stand for, or nothing where no namespace is given. Flags go
 * before variables. POWERSHELL_PATH is accepted by being ignored.
 */
export function rancherMode(flags: RancherFlags, env: NodeJS.ProcessEnv): RancherResult | undefined {
  const namespace = flags.namespace ?? env['NAMESPACE']
  if (!namespace && flags.namespace === undefined) return undefined
  const problems: Problem[] = []
  const report = (path: string, message: string): void => {
    problems.push({ source: SOURCE, path, message })
  }
  // The namespace becomes part of paths: nothing but a name goes on from here.
  if (!namespace || !new RegExp(NAMESPACE_PATTERN).test(namespace)) {
    report(flags.namespace === undefined ? 'NAMESPACE' : '--namespace', `expected ${GRAMMARS.get(NAMESPACE_PATTERN)}`)
  }
  const skipArtifacts =
    flags.skipArtifacts ?? ['SKIP_ARTIFACTS', 'DISABLE_ARTIFACTS'].some((name) => isTrue(name, env, report))
  const names = flags.secretNames
    ?.split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')
  if (names?.length === 0) report('--secret-names', 'expected names with commas between them')
  if (!namespace || problems.length > 0) return { ok: false, problems }
  // The variable KUBECONFIG is left to the provider, which takes a list of files there, as kubectl does.
  const kubeconfig = flags.kubeconfig || undefined
  const disableMtls = flags.disableMtls ?? false
  const document = writeDocument({ namespace, kubeconfig, names, skipArtifacts, disableMtls })
  // One release for each namespace, several on a node: none of Rancher's ever failed for want of an admin port.
  const written = { source: SOURCE, document, openAccounts: true, disableMtls, anyAdminPort: true }
  return { ok: true, written, warnings: warningsOf(namespace, names, disableMtls, env) }
}

/**
 * The configuration of `run`: that of a file, else Rancher mode where a namespace is given. Warnings of both stand in
 * the result.
 */
export async function loadRunConfig(given: LoadOptions, flags: RancherFlags): Promise<LoadResult> {
  const { debugLevel = '0', disableMtls = false } = flags
  const refuse = (flag: string, message: string): LoadResult => {
    return { ok: false, problems: [{ source: 'flag', path: flag, message }] }
  }
  if (!/^[0-9]{1,2}$/.test(debugLevel)) return refuse('--debug-level', 'expected an integer from 0 to 99')
  const options = { ...given, flags: [...debugOverrides(flags), ...(given.flags ?? [])] }
  const file = await findConfigFile(options)
  if (file !== undefined) {
    if (disableMtls)
      return refuse('--disable-mtls', `works in Rancher mode only, not with a configuration file: ${file}`)
    return loadConfig({ ...options, file })
  }
  const rancher = rancherMode(flags, options.env)
  if (rancher === undefined) return loadConfig(options)
  if (!rancher.ok) return rancher
  const result = await loadConfig({ ...options, written: rancher.written })
  return result.ok ? { ...result, warnings: [...rancher.warnings, ...result.warnings] } : result
}

interface RancherSettings {
  readonly namespace: string
  readonly kubeconfig: string | undefined
  readonly names: readonly string[] | undefined
  readonly skipArtifacts: boolean
  readonly disableMtls: boolean
}

function writeDocument(settings: RancherSettings): Record<string, unknown> {
  const { namespace, kubeconfig, names, skipArtifacts, disableMtls } = settings
  const ssl = (...path: string[]): string => posix.join(RANCHER_DIRECTORY, namespace, 'container', 'ssl', ...path)
  const client = { certificate: ssl('client', 'tls.crt'), key: ssl('client', 'tls.key') }
  return {
    listen: { hosts: ['127.0.0.1', '::1'], port: 0 },
    ...(disableMtls
      ? {}
      : {
          tls: { certificate: ssl('server', 'tls.crt'), key: ssl('server', 'tls.key'), clientCa: ssl('ca', 'ca.crt') },
        }),
    providers: { cluster: { type: 'kubernetes', namespace, ...(kubeconfig === undefined ? {} : { kubeconfig }) } },
    accounts: Object.fromEntries((names ?? ['*']).map((name) => [name, { provider: 'cluster' }])),
    ...(skipArtifacts ? {} : { ccg: { directory: RANCHER_DIRECTORY, namespace, ...(disableMtls ? {} : { client }) } }),
  }
}

function warningsOf(
  namespace: string,
  names: readonly string[] | undefined,
  disableMtls: boolean,
  env: NodeJS.ProcessEnv,
): string[] {
  const warnings: string[] = []
  const whoever = disableMtls ? 'whoever reaches the listener' : 'every client with a verified certificate'
  if (names === undefined) {
    warnings.push(
      `${SOURCE}: ${whoever} may read the credential in any Secret of namespace ${namespace}; --secret-names narrows this`,
    )
  }
  if (disableMtls)
    warnings.push(`${SOURCE}: --disable-mtls: credentials go out over plain http, without asking who reads`)
  if (env['DISABLE_MTLS']) {
    warnings.push(`${SOURCE}: the variable DISABLE_MTLS is ignored: only the flag --disable-mtls turns mutual TLS off`)
  }
  return warnings
}

function isTrue(name: string, env: NodeJS.ProcessEnv, report: (path: string, message: string) => void): boolean {
  const text = (env[name] ?? '').trim().toLowerCase()
  if (['true', '1', 't', 'yes', 'on'].includes(text)) return true
  if (!['', 'false', '0', 'f', 'no', 'off'].includes(text)) report(name, 'expected true or false')
  return false
}

/**
 * `--debug` as an override of `log.level`. `--debug-level` is klog's verbosity in Rancher's build: it counts only with
 * `--debug`, and klog tells every request from 6 on.
 */
function debugOverrides({ debug = false, debugLevel = '0' }: RancherFlags): readonly Override[] {
  if (!debug) return []
  return [{ source: 'flag --debug', path: ['log', 'level'], text: Number(debugLevel) >= 6 ? 'trace' : 'debug' }]
}
