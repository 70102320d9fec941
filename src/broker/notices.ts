import { type GmsaError, isOutage } from '../base/errors.ts'
import { faultBehind } from '../base/fault.ts'
import type { Log } from '../base/log.ts'
import type { BlobOddity } from '../gmsa/managed-password.ts'
import type { ManagedPassword } from '../gmsa/material.ts'
import type { Schedule } from '../gmsa/schedule.ts'

/** What there is to say about an account's readings, each thing once for as long as it lasts. */
export interface Notices {
  reading(of: {
    readonly schedule: Schedule
    readonly oddities: readonly BlobOddity[]
    readonly material: ManagedPassword
  }): void
  failed(error: GmsaError): void
}

/** Kerberos takes five minutes at most; by then it is late to say so. */
const MAX_SKEW = 60_000

const NOTES: Readonly<Record<string, string>> = {
  'kvno-unknown': 'the kvno of the password in force is not known: no keys are handed out',
  'kvno-doubtful': 'the kvno read contradicts what is known and is not used; it is read again',
  'kvno-raised': 'the kvno has grown though the password is the same',
  'kvno-predicted':
    'the kvno is counted on from an earlier password, one for each change; the directory may have another',
  'previous-withheld': 'the directory withholds the previous password, and it is not known from before',
  'in-force-unknown': 'only the next password is known, and not the one in force',
  'reserved-not-zero': 'the blob has a reserved field that is not 0',
  'password-length': 'the blob has a password that is not 256 bytes long',
  clock: "this machine's clock and the directory's differ",
}

export function makeNotices(account: string, log: Log): Notices {
  let lasting: ReadonlySet<string> = new Set()
  let failing: string | undefined
  return {
    reading({ schedule, oddities, material }) {
      const skewed = material.server !== undefined && Math.abs(schedule.clockAhead) > MAX_SKEW
      const notes = new Set<string>([...schedule.notes, ...oddities, ...(skewed ? ['clock'] : [])])
      for (const note of notes.difference(lasting)) {
        const more = note === 'clock' ? { aheadMs: schedule.clockAhead } : {}
        log.warn({ account, server: material.server, note, ...more }, NOTES[note] ?? note)
      }
      if (failing !== undefined) log.info({ account, server: material.server }, 'managed password read again')
      lasting = notes
      failing = undefined
    },
    failed(error) {
      // What one caller asks for in vain stands in the audit line.
      const what = isOutage(error) ? 'outage' : error.code
      if (failing === what || what === 'KIND_NOT_OFFERED' || what === 'ACCOUNT_NOT_FOUND') return
      failing = what
      const { code, reason, message: problem } = error
      log.warn({ account, code, reason, problem, ...faultBehind(error) }, 'managed password not read')
    },
  }
}
