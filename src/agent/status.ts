import type { AgentConfig } from './config.ts'
import { type OutputState, unreadiness } from './output.ts'

/** What `agent status` and the status listener show. Nothing of it is secret. */
export interface AgentStatus {
  /** Whether every file can be relied on, and no account is left out. */
  readonly ready: boolean
  readonly outputs: readonly OutputStatus[]
  /** Accounts that are left out because their section of the configuration is wrong. */
  readonly disabled: readonly { readonly account: string; readonly problems: readonly string[] }[]
}

/** The state of one file; times in RFC 3339. */
export interface OutputStatus extends Omit<OutputState, 'lastSuccess' | 'refreshAt' | 'validUntil'> {
  readonly ready: boolean
  /** Why it can't be relied on. */
  readonly reason?: string
  readonly lastSuccess?: string
  readonly refreshAt?: string
  readonly validUntil?: string
}

export interface StatusOptions {
  readonly outputs: readonly OutputState[]
  readonly config: Pick<AgentConfig, 'grace' | 'disabled'>
  /** In ms since 1970. */
  readonly now: number
}

export function statusOf({ outputs, config, now }: StatusOptions): AgentStatus {
  const judged = outputs.map((state): OutputStatus => {
    const { lastSuccess, refreshAt, validUntil, ...rest } = state
    const reason = unreadiness(state, now, config.grace)
    const times = Object.entries({ lastSuccess, refreshAt, validUntil }).flatMap(([name, time]) => {
      return time === undefined ? [] : [[name, new Date(time).toISOString()]]
    })
    return {
      ...rest,
      ready: reason === undefined,
      ...(reason !== undefined && { reason }),
      ...Object.fromEntries(times),
    }
  })
  const disabled = [...config.disabled].map(([account, problems]) => ({ account, problems }))
  return { ready: disabled.length === 0 && judged.every(({ ready }) => ready), outputs: judged, disabled }
}
