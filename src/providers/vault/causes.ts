import { GmsaError, type Reason } from '../../base/errors.ts'
import { membersOf, type StoreAnswer, statusError } from '../http.ts'

/** What a refusal or an outage is about, in our words: the server's own may quote what it was shown. */
interface Meaning {
  readonly reason: Reason
  readonly meaning: string
  readonly hint?: string
}

/** The server's words, only ever looked into and never handed on. */
function wordsOf({ body }: StoreAnswer): string {
  const { errors } = membersOf(body)
  return Array.isArray(errors) ? errors.filter((each) => typeof each === 'string').join('\n') : ''
}

/** Whether a 403 is about this path alone: of a token that it does not know the server says so in other words. */
export function isAboutPolicy(answer: StoreAnswer): boolean {
  return answer.status === 403 && /^1 error\(?s?\)? occurred/.test(wordsOf(answer))
}

const NO_NAMESPACE: Meaning = {
  reason: 'not-found',
  meaning: 'has no such namespace',
  hint: 'check `namespace`: those above it belong before it',
}

/** The refusals of a log-in by the server's words, the first that fits; those of OpenBao 2.7 and Vault's docs. */
const LOG_IN: readonly (readonly [RegExp, Meaning])[] = [
  [/namespace not found/, NO_NAMESPACE],
  [
    /role or secret id|invalid (?:secret|role) id/i,
    {
      reason: 'bad-password',
      meaning: 'takes no such role ID with such a secret ID',
      hint: 'the secret ID may have expired, be used up, or belong to another role; put a new one into secretIdFile',
    },
  ],
  [
    /token is expired/,
    { reason: 'expired', meaning: 'finds the token in tokenFile expired', hint: 'see that its file is renewed' },
  ],
  [
    /\((?:nbf|iat)\)|not valid yet|in the future/,
    { reason: 'clock', meaning: 'finds the token in tokenFile not valid yet', hint: 'compare the clocks' },
  ],
  [
    /audience/,
    {
      reason: 'not-permitted',
      meaning: 'expects a token for another audience',
      hint: "compare the role's audience with that of the token",
    },
  ],
  [
    /(?:namespace|service account name) not authorized/,
    {
      reason: 'not-permitted',
      meaning: 'does not admit this service account to the role',
      hint: 'see bound_service_account_names and bound_service_account_namespaces of the role',
    },
  ],
  [/could not be found|invalid role name/, { reason: 'not-found', meaning: 'has no such role' }],
  [
    /certificate/,
    { reason: 'not-permitted', meaning: 'takes no such client certificate', hint: 'see the roles of auth/cert' },
  ],
  [
    /cidr|source address/i,
    {
      reason: 'not-permitted',
      meaning: 'does not admit our address to the role',
      hint: 'see secret_id_bound_cidrs and token_bound_cidrs of the role',
    },
  ],
  [
    /validating token|claim/,
    {
      reason: 'not-permitted',
      meaning: 'does not take the token in tokenFile',
      hint: "compare its claims and its issuer's key with the role and auth/jwt/config",
    },
  ],
]
const OTHER_REFUSAL: Meaning = {
  reason: 'not-permitted',
  meaning: 'refuses the log-in',
  hint: 'check auth.mount and the role. A role may be locked for a while after refusals; with kubernetes the server may not be allowed to review tokens, or not reach the API server',
}

/** Why a log-in was answered so: STORE_DENIED where it was refused, else as of any request. */
export function logInError(answer: StoreAnswer, server: string, path: string): GmsaError {
  const { status } = answer
  if (status !== 400 && status !== 401 && status !== 403 && status !== 404) return outage(answer, server, path)
  const words = wordsOf(answer)
  const [, { reason, meaning, hint }] = LOG_IN.find(([pattern]) => pattern.test(words)) ?? [undefined, OTHER_REFUSAL]
  return new GmsaError('STORE_DENIED', `${server} ${meaning} (${path}: ${status})`, { reason, ...(hint && { hint }) })
}

/** Why a request with a token that the server knows was answered so. `what`: was asked for at that path. */
export function requestError(answer: StoreAnswer, server: string, path: string, what = path): GmsaError {
  if (answer.status === 403) {
    return new GmsaError('STORE_DENIED', `${server} does not let us read ${path}`, {
      reason: 'not-permitted',
      hint: `a policy of ours has to say: path "${path}" { capabilities = ["read"] }`,
    })
  }
  if (answer.status === 404) {
    const words = wordsOf(answer)
    if (/namespace not found/.test(words)) return denied(NO_NAMESPACE, server, path)
    if (/no handler for route/.test(words)) {
      return denied({ reason: 'not-found', meaning: 'has nothing mounted there' }, server, path)
    }
  }
  return outage(answer, server, what)
}

function denied({ reason, meaning, hint }: Meaning, server: string, path: string): GmsaError {
  return new GmsaError('STORE_DENIED', `${server} ${meaning}: ${path}`, { reason, ...(hint && { hint }) })
}

function outage(answer: StoreAnswer, server: string, what: string): GmsaError {
  const { status } = answer
  if (status === 412) return new GmsaError('STORE_UNAVAILABLE', `${server} is a replica that lags behind: ${what}`)
  // 472 and 473 come from a load balancer that looks at the health of what is behind it.
  if (status === 472 || status === 473 || (status === 503 && /sealed/.test(wordsOf(answer)))) {
    return healthError(answer, server) ?? statusError(answer, server, what)
  }
  if (status >= 300 && status < 400) {
    return new GmsaError('STORE_UNAVAILABLE', `${server} sends us to another address (${status}): ${what}`, {
      reason: 'protocol',
      hint: 'address has to lead to the active node, or to one that forwards to it',
    })
  }
  return statusError(answer, server, what)
}

/** What the health endpoint says by its status of a server that serves nothing. */
const HEALTH: Readonly<Record<number, Omit<Meaning, 'reason'>>> = {
  429: { meaning: 'is a standby that does not forward to its active node' },
  472: { meaning: 'is a secondary for disaster recovery, which serves nothing' },
  473: { meaning: 'is a performance standby' },
  474: { meaning: 'is a standby that does not reach its active node' },
  501: { meaning: 'is not initialized', hint: 'initialize and unseal it' },
  503: { meaning: 'is sealed', hint: 'unseal it' },
  530: { meaning: 'was removed from its cluster' },
}

/** What the status of sys/health explains, if anything. */
export function healthError({ status }: StoreAnswer, server: string): GmsaError | undefined {
  const found = HEALTH[status]
  return (
    found && new GmsaError('STORE_UNAVAILABLE', `${server} ${found.meaning}`, found.hint ? { hint: found.hint } : {})
  )
}

/** An answer with the right status that is none of Vault's. */
export function strangeAnswer(server: string, path: string): GmsaError {
  return new GmsaError('STORE_UNAVAILABLE', `${server} gives no answer of Vault's: ${path}`, {
    reason: 'protocol',
    hint: 'check that address leads to Vault or OpenBao itself, and not to a page for people before it',
  })
}
