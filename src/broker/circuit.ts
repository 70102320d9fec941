/**
 * Whether reads go to a store: a state, and what changes it. Nothing here knows a clock, a store or an error; times are
 * by a clock that only grows, and all of them in ms.
 */
export type Circuit = Closed | Open | HalfOpen

/** Reads go to the store. */
interface Closed {
  readonly state: 'closed'
  readonly since: number
  /** Reads without an answer, in a row. */
  readonly outages: number
  readonly openings: number
}

/** No read goes to it before `until`; from then on one may, as a trial. */
interface Open {
  readonly state: 'open'
  readonly until: number
  /** How often the circuit has opened, not counting what lies before a calm time. */
  readonly openings: number
}

/** The trial is under way, and no other read. */
interface HalfOpen {
  readonly state: 'half-open'
  readonly since: number
  readonly openings: number
}

/** A read that ended without an answer. */
export interface Outage {
  readonly began: number
  /** For how long the store itself asked to be left alone; 0 where it did not. */
  readonly retryAfter: number
  /** From 0 to below 1: spreads the trials of replicas. */
  readonly jitter: number
}

/** One read may meet a lost connection, and so may the next: with three in a row it is the store. */
export const THRESHOLD = 3
/** The first rest; each further one is twice as long. */
export const FIRST_REST = 1_000
/** The longest rest, and so how much later than a store somebody notices that it is back. */
export const LONGEST_REST = 5_000
/** How much shorter a rest may be, so that replicas do not come back at once. */
export const JITTER = 0.2
/** A circuit that was closed for so long starts with the first rest again. */
export const CALM = 60_000

/** Of a store that nobody has asked yet. */
export const NEW_CIRCUIT: Circuit = { state: 'closed', since: Number.NEGATIVE_INFINITY, outages: 0, openings: 0 }

/** The store answered, whatever it was asked and said. */
export function afterAnswer(circuit: Circuit, now: number): Circuit {
  const { openings } = circuit
  return { state: 'closed', since: circuit.state === 'closed' ? circuit.since : now, outages: 0, openings }
}

/**
 * A read ended without an answer. One that began before the circuit was as it is says nothing new of the store, but
 * that the store wants to be left alone holds.
 */
export function afterOutage(circuit: Circuit, outage: Outage, now: number): Circuit {
  switch (circuit.state) {
    case 'open':
      return { ...circuit, until: Math.max(circuit.until, now + outage.retryAfter) }
    case 'half-open':
      return outage.began < circuit.since ? circuit : opened(circuit.openings + 1, outage, now)
    case 'closed': {
      if (outage.began < circuit.since) return circuit
      const outages = circuit.outages + 1
      if (outages < THRESHOLD) return { ...circuit, outages }
      return opened(now - circuit.since >= CALM ? 1 : circuit.openings + 1, outage, now)
    }
  }
}

/** The circuit with a trial under way that begins now; undefined where it is not the time for one. */
export function afterTrialBegan(circuit: Circuit, now: number): HalfOpen | undefined {
  if (circuit.state !== 'open' || now < circuit.until) return undefined
  return { state: 'half-open', since: now, openings: circuit.openings }
}

function opened(openings: number, { retryAfter, jitter }: Outage, now: number): Open {
  const rest = Math.min(FIRST_REST * 2 ** (openings - 1), LONGEST_REST) * (1 - JITTER * jitter)
  return { state: 'open', until: now + Math.max(rest, retryAfter), openings }
}
