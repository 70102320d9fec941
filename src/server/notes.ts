import type { ErrorCode } from '../base/errors.ts'
import type { Peer } from './peers.ts'

/** What is learnt about a request on its way, for the audit line and the metrics. */
export interface RequestNotes {
  readonly peer: Peer | undefined
  account?: string
  provider?: string
  kvno?: number
  /** The true code; what the client was shown may be less. */
  code?: ErrorCode
  /** What went wrong, in words that hold no secret. */
  problem?: string
  stale?: number
}

declare module 'fastify' {
  interface FastifyRequest {
    notes: RequestNotes
  }
  /** Members that only the generated description of the interface uses. */
  interface FastifySchema {
    hide?: boolean
    summary?: string
    description?: string
  }
}
