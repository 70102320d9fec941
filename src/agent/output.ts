import type { GmsaError } from '../base/errors.ts'
import type { OutputConfig, OutputKind } from './config.ts'

/** What is known of one file that the agent keeps. Nothing of it is secret. Times are in ms since 1970. */
export interface OutputState {
  readonly account: string
  readonly kind: OutputKind
  readonly file: string
  /** When the file was last known to be right. */
  readonly lastSuccess?: number
  /** When the service says that the keys may change next. */
  readonly refreshAt?: number
  /** Of the key in force. */
  readonly kvno?: number
  /** Keys in the file. */
  readonly entries?: number
  /** Seconds since the store said so, where it is out and the service goes by what it said. */
  readonly stale?: number
  /** The address that answered last. */
  readonly server?: string
  /** What the last attempt failed for. */
  readonly problem?: Problem
  /** Whether a change is still to be told. */
  readonly hookPending?: boolean
}

export interface Problem {
  readonly code: string
  readonly message: string
  readonly hint?: string
}

/** One file that is kept fresh. */
export interface Output {
  readonly config: OutputConfig
  state(): OutputState
  /** Makes sure the file can be written. Rejects with CONFIG_INVALID. */
  open(): Promise<void>
  /** Brings the file up to date once, and tells who has to know. Rejects with a GmsaError. */
  once(): Promise<void>
  /** Keeps it up to date from now on. */
  start(): void
  /** Does it now. */
  wake(): void
  stop(): Promise<void>
}

export function problemOf({ code, message, hint }: GmsaError): Problem {
  return { code, message, ...(hint && { hint }) }
}

/** Why the file can't be relied on at `now`; undefined where it can. `grace` in ms. */
export function unreadiness(state: OutputState, now: number, grace: number): string | undefined {
  const { lastSuccess, refreshAt, problem } = state
  const why = problem ? ` (${problem.code}: ${problem.message})` : ''
  if (lastSuccess === undefined) return `not up to date since the start${why}`
  if (refreshAt === undefined || now < refreshAt + grace) return undefined
  return `new keys were due ${new Date(refreshAt).toISOString()}${why}`
}
