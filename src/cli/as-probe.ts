import { randomBytes } from 'node:crypto'
import { systemClock } from '../base/clock.ts'
import { GmsaError } from '../base/errors.ts'
import type { AccountOptions } from '../gmsa/account-options.ts'
import type { ManagedPassword } from '../gmsa/material.ts'
import { readKdcTime, requestTicket, type TicketRequest } from '../kerberos/as-exchange.ts'
import type { TicketNote } from '../kerberos/as-reply.ts'
import { enctypeName } from '../kerberos/enctype.ts'
import { KDC_PORT, kdcName, UDP_PREFERENCE_LIMIT } from '../kerberos/kdc.ts'
import { locateKdcs } from '../kerberos/locate-kdcs.ts'
import { formatPrincipal, NAME_TYPES } from '../kerberos/principal.ts'
import { realmOf } from '../kerberos/salt.ts'
import { deriveKeys } from './keys-report.ts'

/** Kerberos refuses tickets when clocks differ by more (RFC 4120 1.6; AD's default is five minutes). */
const MAX_SKEW = 5 * 60_000

const NOTES: Readonly<Record<TicketNote, string>> = {
  'other-salt': 'the KDC names another salt, and yet the key is right',
  'other-rounds': 'the KDC names another number of rounds, and yet the key is right',
  'other-kvno': 'the KDC has the key under another kvno',
}

/**
 * How far the KDC's clock is from ours, in words. Rejects with STORE_UNAVAILABLE, clock, where it is too far, and as
 * requestTicket does where no KDC answers.
 */
export async function describeKdcClock(request: TicketRequest): Promise<string> {
  const { kdc, time } = await readKdcTime(request)
  if (time === undefined) return `${kdcName(kdc)} does not say`
  return describeSkew(kdcName(kdc), time - systemClock.now())
}

/** `skew` is how far the clock of `server` is ahead, in ms. Throws STORE_UNAVAILABLE, clock, where that is too much. */
export function describeSkew(server: string, skew: number): string {
  const detail = `${server} is ${Math.round(Math.abs(skew) / 1000)} s ${skew < 0 ? 'behind' : 'ahead'}`
  if (Math.abs(skew) <= MAX_SKEW) return detail
  throw new GmsaError('STORE_UNAVAILABLE', `${detail}: Kerberos takes no more than 300 s`, {
    reason: 'clock',
    hint: 'synchronise the clocks of both machines',
  })
}

/** Obtains a ticket with the account's keys in force and says by what. Rejects as requestTicket. */
export async function describeTicket(request: TicketRequest): Promise<string> {
  const { kdc, enctype, kvno, notes } = await requestTicket(request)
  const version = kvno === undefined ? '' : `, kvno ${kvno}`
  const said = `${formatPrincipal(request.client)} gets a ticket from ${kdc} with ${enctypeName(enctype)}${version}`
  return [said, ...notes.map((note) => NOTES[note])].join('; ')
}

/**
 * The request that proves an account's keys in force: at `dc`, or else at the controller that gave the password, or
 * else at a KDC of the realm. `timeout` is in ms. Rejects with a GmsaError where there are no keys.
 */
export async function ticketRequestFor(
  material: ManagedPassword,
  options: AccountOptions,
  { dc = material.server, timeout }: { readonly dc: string | undefined; readonly timeout: number },
): Promise<TicketRequest> {
  const { samAccountName, domain } = material.account
  const { keys, salt } = (await deriveKeys(material, options, systemClock.now())).keys
  const realm = realmOf(domain)
  return {
    client: { realm, components: [samAccountName], nameType: NAME_TYPES.principal },
    keys: keys.filter(({ phase }) => phase === 'current'),
    salt,
    kdcs: () => kdcsFor(realm, dc),
    clock: systemClock,
    random: randomBytes,
    timeout,
  }
}

async function kdcsFor(realm: string, dc: string | undefined) {
  if (dc !== undefined) return { kdcs: [{ host: dc, port: KDC_PORT }], udpPreferenceLimit: UDP_PREFERENCE_LIMIT }
  return locateKdcs({ realm, config: process.env['KRB5_CONFIG'], random: Math.random })
}
