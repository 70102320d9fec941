import { GmsaError } from '../base/errors.ts'
import { Secret } from '../base/secret.ts'
import { deriveGmsaPassword, deriveSeedKey, GMSA_SECURITY_DESCRIPTOR } from '../crypto/gkdi.ts'
import { formatFileTime } from './file-time.ts'
import { CYCLE_TICKS, cycleStart, gkidAt, MAX_SKEW_TICKS, rolloverTicks, startOfGkid } from './gkid.ts'
import { parseGuid } from './guid.ts'
import type { KeyHeader } from './key-envelope.ts'
import type { PasswordBlob } from './managed-password.ts'
import { chooseRootKey, type KdsRootKey } from './root-key.ts'

/** whenCreated is cut to whole seconds: in 100 ns. */
const WHOLE_SECOND = 10_000_000n

/** What has to be known of an account to derive its passwords. At least one anchor; with both, exactly the blob. */
export interface OfflineAccount {
  /** objectSid, its bytes. */
  readonly sid: Uint8Array
  /** msDS-ManagedPasswordInterval in days. */
  readonly intervalDays: number
  /** From msDS-ManagedPasswordId: a cycle at whose start the password changed, and the root key it came from. */
  readonly passwordId?: Pick<KeyHeader, 'gkid' | 'rootKeyId'>
  /** As FILETIME. Tells the first change without an identifier, and whether there can be a password before it. */
  readonly whenCreated?: bigint
}

/** The passwords of an account at one moment. */
export interface OfflinePassword {
  /** As a domain controller would answer at that moment; formatManagedPassword takes it. The caller owns it. */
  readonly blob: PasswordBlob
  /** What the password in force came from. In the window that is not the blob's current one. */
  readonly inForce: Pick<KeyHeader, 'gkid' | 'rootKeyId'>
}

/** When an account's password changes: at `anchor`, and every `rollover` ticks after it. */
interface Calendar {
  readonly anchor: bigint
  readonly rollover: bigint
}

/**
 * How many changes there were since the anchor's password at `time`, a FILETIME: 0 as long as it is in force.
 * Throws as {@link deriveOffline} does for the account and the time.
 */
export function changesSince(account: OfflineAccount, time: bigint): number {
  const calendar = calendarOf(account)
  return Number((startAt(calendar, time) - calendar.anchor) / calendar.rollover)
}

/**
 * The passwords of an account at `time`, a FILETIME, from the root keys of its forest ([MS-ADTS] 3.1.1.4.5.39): the
 * blob with both intervals. In the last five minutes before a change its current password is the next one already.
 *
 * The previous password is computed, not remembered: the account need not ever have had it. It is left out for an
 * account that is younger than one interval, and where no root key was usable then.
 *
 * Throws STORE_UNAVAILABLE, clock, for a time before the anchor; MATERIAL_MALFORMED where a root key is missing;
 * RangeError for an account without anchor or with an interval that no directory takes.
 */
export function deriveOffline(account: OfflineAccount, rootKeys: readonly KdsRootKey[], time: bigint): OfflinePassword {
  const calendar = calendarOf(account)
  const { rollover } = calendar
  const start = startAt(calendar, time)
  const end = start + rollover
  const keyAt = (time: bigint) => rootKeyAt(account, rootKeys, time, calendar)
  const neededAt = (time: bigint) => keyAt(time) ?? lacking(`one that was usable at ${formatFileTime(time)}`)
  const inForce = neededAt(start)
  const queryInterval = end - time
  const source = { gkid: gkidAt(start), rootKeyId: inForce.id }
  if (queryInterval <= MAX_SKEW_TICKS) {
    const blob = {
      current: passwordOf(account, neededAt(end), end),
      previous: passwordOf(account, inForce, start),
      queryInterval,
      unchangedInterval: queryInterval + rollover - MAX_SKEW_TICKS,
    }
    return { blob, inForce: source }
  }
  const before = hadPrevious(account, time, calendar) ? keyAt(start - rollover) : undefined
  const blob = {
    current: passwordOf(account, inForce, start),
    ...(before && { previous: passwordOf(account, before, start - rollover) }),
    queryInterval,
    unchangedInterval: queryInterval - MAX_SKEW_TICKS,
  }
  return { blob, inForce: source }
}

function calendarOf({ passwordId, whenCreated, intervalDays }: OfflineAccount): Calendar {
  const rollover = rolloverTicks(intervalDays)
  if (passwordId) return { anchor: startOfGkid(passwordId.gkid), rollover }
  if (whenCreated !== undefined) return { anchor: cycleStart(whenCreated), rollover }
  throw new RangeError('neither passwordId nor whenCreated')
}

/** When the password in force at `time` came into force. */
function startAt({ anchor, rollover }: Calendar, time: bigint): bigint {
  if (time >= anchor) return time - ((time - anchor) % rollover)
  const [now, first] = [time, anchor].map(formatFileTime)
  throw new GmsaError('STORE_UNAVAILABLE', `the clock is at ${now}, before ${first}`, {
    reason: 'clock',
    hint: 'set the clock of this machine, or correct managedPasswordId or whenCreated',
  })
}

/** Directories give no previous password as long as the account is younger than one interval. */
function hadPrevious({ whenCreated }: OfflineAccount, time: bigint, { rollover }: Calendar): boolean {
  return whenCreated === undefined || time - whenCreated >= rollover
}

/**
 * The root key of the password that comes into force at `start`. The identifier names that of the anchor's password. A
 * new account gets a key that was usable one cycle and the allowed skew before, if there is one, since all controllers
 * have it by then; at every later change it is the newest for that time.
 */
function rootKeyAt(
  { passwordId, whenCreated }: OfflineAccount,
  rootKeys: readonly KdsRootKey[],
  start: bigint,
  { anchor }: Calendar,
): KdsRootKey | undefined {
  if (start !== anchor) return chooseRootKey(rootKeys, start)
  if (!passwordId) {
    const created = whenCreated ?? start
    const by = created + WHOLE_SECOND
    const settled = chooseRootKey(rootKeys, created - CYCLE_TICKS - MAX_SKEW_TICKS, by)
    return settled ?? chooseRootKey(rootKeys, start, by)
  }
  const { rootKeyId } = passwordId
  return rootKeys.find(({ id }) => id === rootKeyId) ?? lacking(`${rootKeyId}, which managedPasswordId names`)
}

function lacking(what: string): never {
  throw new GmsaError('MATERIAL_MALFORMED', `the root keys lack ${what}`, {
    hint: 'export all root keys of the forest again, with their times',
  })
}

function passwordOf({ sid }: OfflineAccount, { id, hash, data }: KdsRootKey, start: bigint): Secret {
  const root = { hash, rootKey: data.reveal(), rootKeyId: parseGuid(id) }
  const seedKey = deriveSeedKey(root, GMSA_SECURITY_DESCRIPTOR, gkidAt(start))
  try {
    return new Secret(deriveGmsaPassword(hash, seedKey, sid))
  } finally {
    seedKey.fill(0)
  }
}
