import type { Clock } from '../base/clock.ts'
import type { Health } from '../broker/health.ts'
import type { Drain } from './guard.ts'
import { isValidAt, type TlsStore } from './tls.ts'

/** One line of /readyz. A check that is not `required` is only told of. */
export interface ReadyCheck {
  readonly name: string
  readonly required: boolean
  /** Why it fails, in few words; undefined when it holds. */
  readonly problem: string | undefined
}

export interface Readiness {
  readonly started: boolean
  readonly drain: Readonly<Drain>
  /** Absent: not loaded yet, or mTLS switched off. */
  readonly tls: TlsStore | undefined
  readonly mtls: boolean
  readonly health: Health
  readonly clock: Clock
}

/** What /readyz judges: not ready while starting, stopping, without a valid certificate, or before any store answered. */
export function readyChecks({ started, drain, tls, mtls, health, clock }: Readiness): ReadyCheck[] {
  const required = (name: string, problem: string | undefined) => ({ name, required: true, problem })
  const told = (name: string, problem: string | undefined) => ({ name, required: false, problem })
  return [
    required('started', started ? undefined : 'starting'),
    required('draining', drain.draining ? 'stopping' : undefined),
    mtls ? required('certificate', certificateProblem(tls, clock)) : told('mtls', 'switched off by --disable-mtls'),
    required('providers', health.ready() ? undefined : 'no provider has answered yet'),
    ...health.all().map(({ provider, up, error }) => {
      return told(`provider-${provider}`, up ? undefined : (error?.code ?? 'not asked yet'))
    }),
  ]
}

function certificateProblem(tls: TlsStore | undefined, clock: Clock): string | undefined {
  const leaf = tls?.current().certificate.value.leaf
  if (!leaf) return 'not loaded yet'
  return isValidAt(leaf, clock.now()) ? undefined : 'the server certificate is not valid now'
}
