import { type ErrorCode, GmsaError, type Reason } from '../base/errors.ts'
import { findNtStatus, type KerberosError } from './as-messages.ts'
import { enctypeName } from './enctype.ts'
import { errorName, KRB_ERRORS } from './error-codes.ts'
import { type Kdc, kdcName } from './kdc.ts'
import { formatPrincipal, type Principal } from './principal.ts'

interface Cause {
  readonly code: ErrorCode
  readonly reason: Reason
  readonly meaning: string
  readonly hint: string
}

const denied = (reason: Reason, meaning: string, hint: string): Cause => ({
  code: 'STORE_DENIED',
  reason,
  meaning,
  hint,
})

const DISABLED = denied('disabled', 'is disabled', 'enable it: userAccountControl has ACCOUNTDISABLE (2) set')
const EXPIRED = denied('expired', 'has expired', 'look at accountExpires')
const LOCKED = denied('locked', 'is locked out', 'look at lockoutTime, and for whoever tries wrong keys')
const PASSWORD_EXPIRED = denied('password-expired', 'has an expired password', 'look at pwdLastSet')
const WRONG_KEY = denied(
  'bad-password',
  'has another key',
  'the password has changed since the key was made, or the key is of another account or kvno: fetch it again',
)
const NO_ENCTYPE = denied(
  'no-enctype',
  'has no key of an enctype asked for',
  'compare msDS-SupportedEncryptionTypes with the enctypes of the keys',
)

/** What AD says beside the code, by NTSTATUS ([MS-ERREF] 2.3). */
const STATUS_CAUSES: Readonly<Record<number, Cause>> = {
  3221225578: WRONG_KEY,
  3221225583: denied('not-permitted', 'is not allowed to log on at this time', 'look at logonHours'),
  3221225584: denied('not-permitted', 'is not allowed to log on from here', 'look at userWorkstations'),
  3221225585: PASSWORD_EXPIRED,
  3221225586: DISABLED,
  3221225875: EXPIRED,
  3221226020: denied('must-change', 'must change its password', 'set pwdLastSet to -1'),
  3221226036: LOCKED,
}

/** What a code means for a client that asks for its first ticket (RFC 4120 7.5.9). */
const ERROR_CAUSES: Readonly<Record<number, Cause>> = {
  [KRB_ERRORS.KDC_ERR_NAME_EXP]: EXPIRED,
  [KRB_ERRORS.KDC_ERR_C_PRINCIPAL_UNKNOWN]: {
    code: 'ACCOUNT_NOT_FOUND',
    reason: 'not-found',
    meaning: 'is not known',
    hint: 'compare sAMAccountName and domain with the directory',
  },
  [KRB_ERRORS.KDC_ERR_POLICY]: denied(
    'not-permitted',
    'may not log on by policy',
    'look at the authentication policies and silos of the account',
  ),
  [KRB_ERRORS.KDC_ERR_ETYPE_NOSUPP]: NO_ENCTYPE,
  [KRB_ERRORS.KDC_ERR_CLIENT_REVOKED]: denied(
    'disabled',
    'is disabled, locked or expired',
    'look at userAccountControl, lockoutTime and accountExpires',
  ),
  [KRB_ERRORS.KDC_ERR_KEY_EXPIRED]: PASSWORD_EXPIRED,
  [KRB_ERRORS.KDC_ERR_PREAUTH_FAILED]: WRONG_KEY,
  [KRB_ERRORS.KRB_AP_ERR_BAD_INTEGRITY]: WRONG_KEY,
  [KRB_ERRORS.KRB_AP_ERR_SKEW]: {
    code: 'STORE_UNAVAILABLE',
    reason: 'clock',
    meaning: 'has sent a timestamp too far from its clock',
    hint: 'synchronise the clocks of both machines',
  },
  [KRB_ERRORS.KDC_ERR_WRONG_REALM]: {
    code: 'ACCOUNT_NOT_FOUND',
    reason: 'wrong-realm',
    meaning: 'belongs to another realm',
    hint: "use the DNS name of the account's own domain",
  },
}

/** What was tried when a KDC refused. */
export interface Refused {
  readonly client: Principal
  readonly kdc: Kdc
  /** The key of the timestamp; absent where none was sent. */
  readonly key: { readonly enctype: number; readonly kvno?: number } | undefined
  /** The KDC's salt where it is not the one the key was made with. */
  readonly otherSalt: string | undefined
}

/** What a KRB-ERROR means to whoever asked for a ticket; requestTicket lists the codes and reasons. */
export function kdcRefusal({ code, data }: KerberosError, { client, kdc, key, otherSalt }: Refused): GmsaError {
  const said = `${kdcName(kdc)}: ${errorName(code)}: ${formatPrincipal(client)}`
  const status = findNtStatus(data)
  const cause = (status === undefined ? undefined : STATUS_CAUSES[status]) ?? ERROR_CAUSES[code]
  if (!cause) return new GmsaError('STORE_UNAVAILABLE', `${said} gets no ticket`, { reason: 'protocol' })
  const { reason, meaning, hint } = cause
  if (cause !== WRONG_KEY || !key) return new GmsaError(cause.code, `${said} ${meaning}`, { reason, hint })
  const tried = `${enctypeName(key.enctype)}${key.kvno === undefined ? '' : `, kvno ${key.kvno}`}`
  return new GmsaError(cause.code, `${said} ${meaning} than the one tried: ${tried}`, {
    reason,
    hint: otherSalt === undefined ? hint : renamedHint(otherSalt),
  })
}

/** Nobody has authenticated the salt: it is shown as a string of bounded length. */
const renamedHint = (salt: string) =>
  `the account seems to have been renamed since its password was set: give it salt ${JSON.stringify(salt.slice(0, 512))}`

/** A reply that our key does not open, where none had to be shown first. */
export function sealedReply(client: Principal, kdc: Kdc): GmsaError {
  const message = `${kdcName(kdc)}: ${formatPrincipal(client)} ${WRONG_KEY.meaning} than ours: the reply does not open`
  return new GmsaError(WRONG_KEY.code, message, { reason: WRONG_KEY.reason, hint: WRONG_KEY.hint })
}

/** No enctype that we have keys for and the KDC takes. */
export function noCommonEnctype(problem: string): GmsaError {
  return new GmsaError('STORE_DENIED', problem, { reason: 'no-enctype', hint: NO_ENCTYPE.hint })
}
