import { systemClock } from '../base/clock.ts'
import { GmsaError, toGmsaError } from '../base/errors.ts'
import { silentLog } from '../base/log.ts'
import type { Secret } from '../base/secret.ts'
import { accountOptionsOf } from '../gmsa/account-options.ts'
import { nearestEdge, rolloverOf } from '../gmsa/cycle.ts'
import { millisecondsOf, TICKS_PER_MS } from '../gmsa/file-time.ts'
import { MAX_SKEW_TICKS, startOfGkid } from '../gmsa/gkid.ts'
import { parseManagedPassword } from '../gmsa/managed-password.ts'
import type { ManagedPassword, Material } from '../gmsa/material.ts'
import type { Account } from '../providers/provider.ts'
import { readMaterial } from './account-probe.ts'
import type { Config } from './config.ts'
import { type Finding, findingOf } from './findings.ts'
import { openProvider } from './open-providers.ts'

const OFFLINE = 'kds-root-key'
const DIRECTORY = 'active-directory'
const SUBJECT = 'offline derivation'
/** Kerberos and the directory forgive no more, in s. */
const MAX_SKEW = 300

/** Where the other side's answer about the same gMSA can be had. */
interface Counterpart {
  readonly provider: string
  readonly account: Account
}

/**
 * Where the configuration has both a directory and offline derivation for a gMSA: whether they agree, and if not, why.
 * Nothing where it does not. A directory that gives no answer is a warning: to do without it is what the other is for.
 */
export async function compareOffline(
  material: Material | undefined,
  account: Account,
  config: Config,
): Promise<Finding[]> {
  const own = config.providers.get(config.accounts.get(account.name)?.provider ?? '')?.type
  if (material?.kind !== 'managed-password' || (own !== OFFLINE && own !== DIRECTORY)) return []
  const other = own === OFFLINE ? directoryFor(material, account, config) : derivationFor(material, config)
  if (!other) return []
  let answer: Material
  try {
    answer = await ask(other, config)
  } catch (thrown) {
    const { message, code, reason, hint } = toGmsaError(thrown)
    const detail = `not compared with provider ${other.provider}: ${message}`
    return [{ subject: SUBJECT, state: 'warning', detail, code, ...(reason && { reason }), ...(hint && { hint }) }]
  }
  if (answer.kind !== 'managed-password') return []
  const [directory, derived] = own === OFFLINE ? [answer, material] : [material, answer]
  return [await findingOf(SUBJECT, async () => agreement(directory, derived))]
}

/** A directory of the same domain. */
function directoryFor({ account: { domain, samAccountName } }: ManagedPassword, account: Account, config: Config) {
  for (const [provider, { type, options }] of config.providers) {
    if (type !== DIRECTORY || !isSame(String(options['domain']), domain)) continue
    return { provider, account: { ...account, options: { samAccountName } } }
  }
  return undefined
}

/** An account of the same name in the same domain whose passwords are derived. */
function derivationFor({ account: { domain, samAccountName } }: ManagedPassword, config: Config) {
  for (const [name, { provider, secret = name, options }] of config.accounts) {
    if (config.providers.get(provider)?.type !== OFFLINE) continue
    const its = accountOptionsOf(options)
    if (!isSame(its.samAccountName ?? `${name}$`, samAccountName) || !isSame(its.domain ?? '', domain)) continue
    return { provider, account: { name, secret, options } }
  }
  return undefined
}

const isSame = (one: string, other: string) => one.toLowerCase() === other.toLowerCase()

async function ask({ provider: name, account }: Counterpart, config: Config): Promise<Material> {
  const options = config.providers.get(name)
  if (!options) throw new GmsaError('CONFIG_INVALID', `no such provider: ${name}`)
  await using provider = await openProvider(name, options, { log: silentLog, clock: systemClock }, config)
  // Awaited here: the provider is closed at the end of this function.
  return await readMaterial(provider, account, config.timeouts.store)
}

/** What one side says: the password in force, and when it changes, in ms since 1970 by our clock. */
function readingOf({ blob, receivedAt }: ManagedPassword): {
  readonly inForce: Secret | undefined
  readonly end: number
} {
  const { current, previous, queryInterval } = parseManagedPassword(blob.reveal())
  const end = receivedAt + Number(queryInterval / TICKS_PER_MS)
  return { inForce: queryInterval <= MAX_SKEW_TICKS ? previous : current, end }
}

/**
 * One line where both have the same password in force, and will have. Throws what keeps them from it: the clock, what the
 * configuration says of the account, its calendar, and last the root key.
 */
export function agreement(directory: ManagedPassword, derived: ManagedPassword): string {
  const [theirs, ours] = [readingOf(directory), readingOf(derived)]
  compareClocks(theirs.end)
  compareAccounts(directory.account, derived.account)
  compareChanges(theirs.end, ours.end)
  if (theirs.inForce && ours.inForce?.equals(theirs.inForce)) return sameKvno(directory, derived)
  const { passwordId } = directory
  const days = directory.account.managedPasswordInterval
  const start = days === undefined ? undefined : nearestEdge(theirs.end) - rolloverOf(days)
  // The identifier is that of the last change the directory made, which may be one behind.
  const isOfNow = passwordId !== undefined && millisecondsOf(startOfGkid(passwordId.gkid)) === start
  const [wanted, taken] = [isOfNow ? passwordId.rootKeyId : undefined, derived.passwordId?.rootKeyId]
  if (wanted !== undefined && wanted !== taken) {
    throw differs(`the directory took root key ${wanted} for this password, and we took ${taken}`, [
      'export all root keys of the forest again, with their times;',
      'if they are all there, set managedPasswordId to what the directory has now',
    ])
  }
  throw differs(`root key ${taken} gives another password than the directory has`, [
    'its data is not that of this forest, or was damaged: export the root keys again',
  ])
}

function sameKvno(directory: ManagedPassword, derived: ManagedPassword): string {
  const [theirs, ours] = [directory.kvno?.value, derived.kvno?.value]
  const same = 'the directory has the same password'
  if (theirs === undefined || theirs === ours) return ours === undefined ? same : `${same}, kvno ${ours}`
  if (ours === undefined) return `${same}; its kvno is ${theirs}: with that configured there are keys too`
  throw differs(`${same}, under kvno ${theirs}; ours is ${ours}${derived.kvno?.predicted ? ', counted on' : ''}`, [
    `set managedPasswordId to what the directory has now, and kvno to ${theirs}`,
  ])
}

function compareAccounts(directory: ManagedPassword['account'], derived: ManagedPassword['account']): void {
  if (directory.sid !== undefined && directory.sid !== derived.sid) {
    throw differs(`the directory's account has the SID ${directory.sid}, and sid is ${derived.sid}`, [
      'sid is of another account, or the account was made again under the same name:',
      'then write down sid, managedPasswordId, whenCreated and kvno anew',
    ])
  }
  const [days, ours] = [directory.managedPasswordInterval, derived.managedPasswordInterval]
  if (days !== undefined && days !== ours) {
    throw differs(`msDS-ManagedPasswordInterval is ${days}, and managedPasswordInterval is ${ours}`, [
      `set managedPasswordInterval to ${days}`,
    ])
  }
}

/** Changes are on ten-hour edges, so what is over an edge is the difference of the clocks. */
function compareClocks(change: number): void {
  const ahead = Math.round((change - nearestEdge(change)) / 1000)
  if (Math.abs(ahead) <= MAX_SKEW) return
  const difference = `${Math.abs(ahead)} s ${ahead > 0 ? 'ahead of' : 'behind'} the directory's`
  throw new GmsaError('STORE_UNAVAILABLE', `this clock is ${difference}`, {
    reason: 'clock',
    hint: 'set the clock of this machine: a password is derived for the time that it says',
  })
}

function compareChanges(theirs: number, ours: number): void {
  if (nearestEdge(theirs) === nearestEdge(ours)) return
  const [one, other] = [theirs, ours].map((time) => new Date(nearestEdge(time)).toISOString())
  throw differs(`the directory changes the password at ${one}, and we would at ${other}`, [
    'managedPasswordId or whenCreated is not this account’s: write it down anew',
  ])
}

function differs(message: string, hint: readonly string[]): GmsaError {
  return new GmsaError('CONFIG_INVALID', message, { hint: hint.join(' ') })
}
