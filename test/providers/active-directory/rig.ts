import { systemClock } from '../../../src/base/clock.ts'
import { Secret } from '../../../src/base/secret.ts'
import type { ImpersonationCredential, ManagedPassword } from '../../../src/gmsa/material.ts'
import { openActiveDirectory, type Surroundings } from '../../../src/providers/active-directory/open.ts'
import type { Options } from '../../../src/providers/active-directory/schema.ts'
import type { Provider, ProviderContext } from '../../../src/providers/provider.ts'
import type { Domain, Login } from '../../lab/domain.ts'

/** A provider on a lab domain, with what it said and did. */
export interface DirectoryRig extends AsyncDisposable {
  readonly provider: Provider
  /** What is logged, each with its level and message. */
  readonly lines: Record<string, unknown>[]
  /** `server outcome`, in order. */
  readonly outcomes: string[]
  /** How often the credential of the bind was read. */
  readonly logOns: () => number
  read(account: string, signal?: AbortSignal): Promise<ManagedPassword>
}

export interface RigOptions {
  readonly options?: Partial<Options>
  /** Whose credential the store holds; asked for each log-on. */
  readonly login?: () => Login
  readonly surroundings?: Surroundings
  /** Leaves the servers to the DNS, and the CA to the system. */
  readonly discover?: boolean
}

/** What of a domain the provider needs. */
export type DirectoryDomain = Pick<Domain, 'dns' | 'ip' | 'ca' | 'ccg'>

export async function openRig(domain: DirectoryDomain, rig: RigOptions = {}): Promise<DirectoryRig> {
  const { options = {}, login = () => domain.ccg, surroundings, discover = false } = rig
  const lines: Record<string, unknown>[] = []
  const outcomes: string[] = []
  let logOns = 0
  const keep = (level: string) => (fields: object, message: string) => void lines.push({ ...fields, level, message })
  const context: ProviderContext = {
    log: {
      trace: keep('trace'),
      debug: keep('debug'),
      info: keep('info'),
      warn: keep('warn'),
      error: keep('error'),
    },
    clock: systemClock,
    async readCredential() {
      logOns += 1
      return credentialOf(domain, login())
    },
  }
  const all: Options = {
    domain: domain.dns,
    ...(discover ? {} : { servers: [domain.ip], ca: domain.ca }),
    bind: { provider: 'local', account: 'svc-ccg' },
    ...options,
  }
  const provider = await openActiveDirectory('ad', all, context, surroundings)
  provider.watchServers?.((server, outcome) => outcomes.push(`${server} ${outcome}`))
  return {
    provider,
    lines,
    outcomes,
    logOns: () => logOns,
    read(account, signal = AbortSignal.timeout(10_000)) {
      const read = provider.reads['managed-password']
      if (!read) throw new Error('offers no managed password')
      return read({ name: account, secret: account, options: {} }, signal)
    },
    [Symbol.asyncDispose]: () => provider[Symbol.asyncDispose](),
  }
}

export function credentialOf(domain: Pick<Domain, 'dns'>, { username, password }: Login): ImpersonationCredential {
  return { kind: 'credential', username, domainName: domain.dns, password: Secret.fromText(password) }
}
