import type { Clock } from '../../base/clock.ts'
import { GmsaError } from '../../base/errors.ts'
import { Secret } from '../../base/secret.ts'
import { membersOf } from '../http.ts'
import type { Api } from './api.ts'
import { backOff } from './back-off.ts'
import { isAboutPolicy, logInError, strangeAnswer } from './causes.ts'
import type { Shows } from './log-in.ts'
import type { AuthOptions } from './schema.ts'
import type { Grant, Lease, TokenSource } from './session.ts'

export const LOOKUP = 'auth/token/lookup-self'
const RENEW = 'auth/token/renew-self'
const REVOKE = 'auth/token/revoke-self'

/** How long a refused log-in is not tried again with the same proof, in ms: after the first refusal, the second… */
const AFTER_REFUSALS = [1_000, 4_000, 16_000, 60_000]
/** An AppRole is locked after five refusals of which each came within a quarter of an hour of the one before. */
const AFTER_APPROLE_REFUSALS = [60_000, 4 * 60_000, 16 * 60_000]

/** Tokens by log-in with what `shows` reads; with the method `token` those that somebody else puts into a file. */
export function tokenSource(api: Api, auth: AuthOptions, shows: Shows, clock: Clock): TokenSource {
  const { method, mount = method } = auth
  const braked = logInBrake(clock, method === 'approle' ? AFTER_APPROLE_REFUSALS : AFTER_REFUSALS)

  async function logIn(body: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Grant> {
    const path = `auth/${mount}/login`
    const answer = await api.send({ method: 'POST', path, body, signal })
    if (answer.status !== 200) throw logInError(answer, api.server, path)
    const grant = parseGrant(answer.body)
    if (!grant) throw strangeAnswer(api.server, path)
    return grant
  }

  /** The token of the file, with what the server says of it; a policy may forbid us to ask. */
  async function lookUp({ token: text = '' }: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Grant> {
    const token = Secret.fromText(text)
    const answer = await api.send({ path: LOOKUP, token, signal })
    if (isAboutPolicy(answer)) return { token, ours: false, seconds: 0, renewable: false }
    if (answer.status === 403) throw unknownToken(api.server)
    if (answer.status !== 200) throw logInError(answer, api.server, LOOKUP)
    const { ttl, renewable } = membersOf(membersOf(answer.body)['data'])
    return { token, ours: false, seconds: secondsOf(ttl), renewable: renewable === true }
  }

  return {
    async obtain(signal) {
      const shown = await shows(signal)
      const proof = Secret.fromText(JSON.stringify([shown, await api.certificate()]))
      return braked(proof, () => (method === 'token' ? lookUp(shown, signal) : logIn(shown, signal)))
    },
    async isCurrent(token, signal) {
      if (method !== 'token') return true
      const { token: text = '' } = await shows(signal)
      return token.equals(Secret.fromText(text))
    },
    async isAlive(token, signal) {
      const answer = await api.send({ path: LOOKUP, token, signal })
      if (answer.status === 200 || isAboutPolicy(answer)) return true
      if (answer.status === 403) return false
      throw logInError(answer, api.server, LOOKUP)
    },
    async renew(token, signal) {
      const answer = await api.send({ method: 'POST', path: RENEW, token, body: {}, signal })
      if (answer.status !== 200) throw logInError(answer, api.server, RENEW)
      const { auth: renewed } = membersOf(answer.body)
      if (typeof renewed !== 'object' || renewed === null) throw strangeAnswer(api.server, RENEW)
      return parseLease(membersOf(renewed))
    },
    async revoke(token, signal) {
      await api.send({ method: 'POST', path: REVOKE, token, body: {}, signal })
    },
  }
}

function parseGrant(body: unknown): Grant | undefined {
  const auth = membersOf(membersOf(body)['auth'])
  const { client_token: token, token_type: type } = auth
  if (typeof token !== 'string' || token === '') return undefined
  // A batch token can be neither renewed nor revoked.
  return { token: Secret.fromText(token), ours: type !== 'batch', ...parseLease(auth) }
}

function parseLease({ lease_duration: duration, renewable }: Readonly<Record<string, unknown>>): Lease {
  return { seconds: secondsOf(duration), renewable: renewable === true }
}

/** A lease that is none never ends. */
function secondsOf(value: unknown): number {
  return typeof value === 'number' && value > 0 ? value : 0
}

function unknownToken(server: string): GmsaError {
  return new GmsaError('STORE_DENIED', `${server} does not know the token in tokenFile`, {
    reason: 'expired',
    hint: 'it has expired or was revoked: put a new one there. Or its address is not one of token_bound_cidrs',
  })
}

type Braked = <T>(proof: Secret, logIn: () => Promise<T>) => Promise<T>

/** Answers a proof that was refused with that refusal, for a time; another proof is tried at once. */
function logInBrake(clock: Clock, waits: readonly number[]): Braked {
  const pause = backOff(clock, waits)
  let refused: { readonly proof: Secret; readonly error: GmsaError } | undefined
  return async (proof, logIn) => {
    if (refused && !refused.proof.equals(proof)) {
      refused = undefined
      pause.reset()
    }
    if (refused && pause.left() > 0) throw refused.error
    try {
      const granted = await logIn()
      refused = undefined
      pause.reset()
      return granted
    } catch (error) {
      if (error instanceof GmsaError && error.code === 'STORE_DENIED') {
        refused = { proof, error }
        pause.failed()
      }
      throw error
    }
  }
}
