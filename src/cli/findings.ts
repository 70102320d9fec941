import { toGmsaError } from '../base/errors.ts'
import { print } from './print.ts'

/** One thing that a command looked at, for people and for machines. */
export interface Finding {
  readonly subject: string
  readonly state: 'ok' | 'warning' | 'failed' | 'skipped'
  readonly detail: string
  readonly code?: string
  readonly reason?: string
  readonly hint?: string
}

/** Runs one look; what it throws becomes a finding that failed. */
export async function findingOf(subject: string, look: () => Promise<string>): Promise<Finding> {
  try {
    return { subject, state: 'ok', detail: await look() }
  } catch (thrown) {
    const { code, message, reason, hint } = toGmsaError(thrown)
    return { subject, state: 'failed', detail: message, code, ...(reason && { reason }), ...(hint && { hint }) }
  }
}

/** A table for people, or one JSON object: `{"ok":…,"findings":[…]}`. */
export function printFindings(findings: readonly Finding[], asJson: boolean): void {
  if (asJson) {
    print(`${JSON.stringify({ ok: findings.every((each) => each.state !== 'failed'), findings }, null, 2)}\n`)
    return
  }
  const width = Math.max(...findings.map((each) => each.subject.length))
  for (const { subject, state, detail, reason, hint } of findings) {
    const note = reason ? ` [${reason}]` : ''
    print(`${state.padEnd(8)} ${subject.padEnd(width)}  ${detail}${note}\n`)
    if (hint) print(`${' '.repeat(9 + width)}  hint: ${hint}\n`)
  }
}
