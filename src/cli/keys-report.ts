import type { AccountOptions } from '../gmsa/account-options.ts'
import { rolloverOf } from '../gmsa/cycle.ts'
import { makeKeyDeriver } from '../gmsa/derive.ts'
import { parseManagedPassword } from '../gmsa/managed-password.ts'
import type { ManagedPassword } from '../gmsa/material.ts'
import { type Schedule, scheduleKeys } from '../gmsa/schedule.ts'
import { chooseEnctypes, type EnctypeChoice } from '../kerberos/enctype.ts'
import type { KerberosKeys } from '../kerberos/keys.ts'
import { formatPrincipal, principalsFor } from '../kerberos/principal.ts'
import { accountSalt, realmOf } from '../kerberos/salt.ts'

/** The keys of a managed password as the service would derive them, and what they were derived by. */
export interface DerivedKeys {
  readonly keys: KerberosKeys
  readonly schedule: Schedule
  readonly choice: EnctypeChoice
}

/** Derives the keys of a managed password as the service would. Rejects with a GmsaError where none can be handed out. */
export async function deriveKeys(
  material: ManagedPassword,
  options: AccountOptions,
  now: number,
): Promise<DerivedKeys> {
  const { samAccountName, domain, supportedEnctypes, managedPasswordInterval } = material.account
  const kvno = material.kvno ?? (options.kvno === undefined ? undefined : { value: options.kvno, readAt: now })
  const reading = {
    blob: parseManagedPassword(material.blob.reveal()),
    receivedAt: material.receivedAt,
    jitter: 0,
    ...(kvno && { kvno }),
    ...(managedPasswordInterval !== undefined && { rollover: rolloverOf(managedPasswordInterval) }),
  }
  const schedule = scheduleKeys({ reading, now, keepPrevious: 0 })
  const choice = chooseEnctypes(options.enctypes, supportedEnctypes)
  const salt = options.salt ?? accountSalt(samAccountName, domain)
  const by = { realm: realmOf(domain), salt, enctypes: choice.enctypes }
  return { keys: await makeKeyDeriver().deriveKeys(schedule, by), schedule, choice }
}

/** What the keys of a managed password are, in words, without showing them. Rejects as {@link deriveKeys}. */
export async function describeKeys(material: ManagedPassword, options: AccountOptions, now: number): Promise<string> {
  const { keys: derived, schedule, choice } = await deriveKeys(material, options, now)
  const { samAccountName, servicePrincipalNames } = material.account
  const { realm, keys } = derived
  const { enctypes, assumed, leftOut } = choice
  const services = options.servicePrincipalNames ?? servicePrincipalNames
  const principals = principalsFor('acceptor', { samAccountName, realm, servicePrincipalNames: services })
  const words = enctypes.map(({ word }) => word).join(', ')
  const doubts = [
    ...(assumed ? ['msDS-SupportedEncryptionTypes is not set, these are assumed'] : []),
    ...(leftOut.length > 0 ? [`not supported by the account: ${leftOut.join(', ')}`] : []),
    ...schedule.notes,
  ]
  const kvnos = [...new Set(keys.map((each) => each.kvno))].join(', ')
  const said = `${words} under kvno ${kvnos} for ${principals.map(formatPrincipal).join(', ')}`
  const change = `; the password changes ${new Date(schedule.queryDate).toISOString()}`
  return `${said}${change}${doubts.map((each) => `; ${each}`).join('')}`
}
