import { createHash } from 'node:crypto'
import { GmsaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Secret } from '../base/secret.ts'
import type { AccountOptions } from '../gmsa/account-options.ts'
import type { KeyDeriver } from '../gmsa/derive.ts'
import { parseManagedPassword } from '../gmsa/managed-password.ts'
import type { ManagedPassword, StoredKeys } from '../gmsa/material.ts'
import type { Schedule } from '../gmsa/schedule.ts'
import { chooseEnctypes, type Enctype } from '../kerberos/enctype.ts'
import { type KerberosKeys, keytabEntries } from '../kerberos/keys.ts'
import { encodeKeytab, type KeytabEntry } from '../kerberos/keytab.ts'
import { formatPrincipal, type PrincipalNames, principalsFor } from '../kerberos/principal.ts'
import { accountSalt, realmOf } from '../kerberos/salt.ts'

/** What a keytab is for: taking tickets, or logging on. */
export type KeytabUse = 'acceptor' | 'initiator'

export interface KeytabRequest {
  readonly use: KeytabUse
  /** Only these, each one of the account's; none: all of them. */
  readonly principals: readonly string[]
}

/** The keys of an account and the names they are for. */
export interface AccountKeys {
  readonly keys: KerberosKeys
  readonly names: PrincipalNames
  /** That of the key in force. */
  readonly kvno: number
  /** Of the key state, without names: two readings that differ in a secret alone differ in this. */
  readonly state: readonly unknown[]
}

/** Tells apart what no number tells apart: another secret under the same kvno and start. Never a digest of it. */
export interface Revisions {
  /** Absent as long as nothing changed under its number; then another value at each such change. */
  of(secrets: Iterable<readonly [id: string, secret: Secret]>): string | undefined
}

/** `nonce` keeps the values of two processes apart. */
export function makeRevisions(nonce: string): Revisions {
  let known: ReadonlyMap<string, Secret> = new Map()
  let changes = 0
  return {
    of(secrets) {
      const now = new Map(secrets)
      const differs = [...now].some(([id, secret]) => {
        const before = known.get(id)
        return before !== undefined && before !== secret && !before.equals(secret)
      })
      if (differs) changes += 1
      known = new Map([...known, ...now].filter(([id]) => now.has(id)))
      return changes === 0 ? undefined : `${nonce}.${changes}`
    },
  }
}

export interface KeyMaker {
  /** The keys of a managed password by its schedule. Rejects as {@link KeyDeriver.deriveKeys} does. */
  fromPassword(material: ManagedPassword, schedule: Schedule): Promise<AccountKeys>
  /** Those of a keytab. Throws MATERIAL_MALFORMED where nothing says what the account is called. */
  fromKeytab(stored: StoredKeys): AccountKeys
}

export interface KeyMakerOptions {
  readonly account: string
  readonly options: AccountOptions
  readonly deriver: KeyDeriver
  readonly revisions: Revisions
  readonly log: Log
}

/** Puts together what the configuration, the store and the directory say of one account's keys. */
export function makeKeyMaker({ account, options, deriver, revisions, log }: KeyMakerOptions): KeyMaker {
  let warned = ''

  function enctypesOf(supported: number | undefined): readonly Enctype[] {
    const { enctypes, assumed, leftOut } = chooseEnctypes(options.enctypes, supported)
    const problem = [assumed ? 'assumed' : '', ...leftOut].join(' ').trim()
    if (problem !== '' && problem !== warned) {
      const chosen = enctypes.map(({ word }) => word)
      if (assumed)
        log.warn({ account, enctypes: chosen }, 'msDS-SupportedEncryptionTypes is not set: these are assumed')
      if (leftOut.length > 0) log.warn({ account, leftOut }, 'enctypes left out that the account does not support')
    }
    warned = problem
    return enctypes
  }

  return {
    async fromPassword(material, schedule) {
      const { samAccountName, domain, servicePrincipalNames, supportedEnctypes, sid } = material.account
      const realm = realmOf(domain)
      const salt = options.salt ?? accountSalt(samAccountName, domain)
      const enctypes = enctypesOf(supportedEnctypes)
      const keys = await deriver.deriveKeys(schedule, { realm, salt, enctypes })
      const services = options.servicePrincipalNames ?? servicePrincipalNames
      const names = { samAccountName, realm, servicePrincipalNames: services }
      const origin = [sid, ...passwordState(material, schedule)]
      return { keys, names, kvno: kvnoOf(keys), state: stateOf(keys, origin, revisions) }
    },
    fromKeytab(stored) {
      const { realm, principals } = stored
      const own = principals.find(({ components }) => components.length === 1 && components[0]?.endsWith('$'))
      const samAccountName = options.samAccountName ?? own?.components[0]
      if (samAccountName === undefined) {
        throw new GmsaError('MATERIAL_MALFORMED', `record of account ${account}: no principal such as web01$`, {
          hint: `set accounts.${account}.samAccountName`,
        })
      }
      const services = principals.filter((each) => each.components.length > 1).map((each) => each.components.join('/'))
      const keys = { ...stored, ...(options.salt && { salt: options.salt }) }
      const names = { samAccountName, realm, servicePrincipalNames: options.servicePrincipalNames ?? services }
      return { keys, names, kvno: kvnoOf(keys), state: stateOf(keys, [], revisions) }
    },
  }
}

function kvnoOf({ keys }: KerberosKeys): number {
  const current = keys.find(({ phase }) => phase === 'current')
  if (!current) throw new GmsaError('KVNO_UNKNOWN', 'the kvno of the password in force is not known')
  return current.kvno
}

/**
 * What tells readings of one kvno apart where no start does, as with a record whose interval nobody said: the blob's
 * own intervals, which are those of the moment it was made. A directory's differ at every read and say nothing.
 */
export function passwordState({ blob, server }: ManagedPassword, { generations }: Schedule): readonly unknown[] {
  const dated = generations.some(({ phase, start }) => phase === 'current' && start !== undefined)
  if (dated || server !== undefined) return []
  const { queryInterval, unchangedInterval } = parseManagedPassword(blob.reveal())
  return [String(queryInterval), String(unchangedInterval)]
}

function stateOf({ realm, salt, keys }: KerberosKeys, origin: readonly unknown[], revisions: Revisions) {
  const revision = revisions.of(keys.map(({ kvno, enctype, start, key }) => [`${kvno} ${enctype} ${start}`, key]))
  const each = keys.map(({ kvno, enctype, phase, start, predicted }) => [kvno, enctype, phase, start, predicted])
  return [realm, salt, each, origin, revision]
}

/** An entity tag of state that is no secret. */
export function tagOf(...state: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(state)).digest('base64url').slice(0, 27)
}

/** The bytes of a keytab, and their tag. Throws REQUEST_INVALID for a principal that is not the account's. */
export function keytabOf(account: AccountKeys, { use, principals }: KeytabRequest): { bytes: Buffer; tag: string } {
  const wanted = principalsFor(use, account.names, principals)
  const entries = keytabEntries(account.keys, use, wanted)
  return { bytes: encodeKeytab(entries), tag: tagOf('keytab', entries.map(entryState), originOf(account)) }
}

/** What of the state shows in a keytab. A phase does not; that a key is another does. */
function entryState({ principal, timestamp, kvno, enctype }: KeytabEntry): readonly unknown[] {
  return [formatPrincipal(principal), timestamp, kvno, enctype]
}

const originOf = ({ keys, state }: AccountKeys): readonly unknown[] => [keys.salt, ...state.slice(3)]
