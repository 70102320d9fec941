import { GmsaError } from '../../base/errors.ts'
import type { Secret } from '../../base/secret.ts'
import { membersOf, openStoreHttp } from '../http.ts'
import type { Provider, ProviderContext } from '../provider.ts'
import { fromRecords } from '../records.ts'
import { type Api, openApi } from './api.ts'
import { healthError, isAboutPolicy, requestError, strangeAnswer } from './causes.ts'
import { type Ask, openKv } from './kv.ts'
import { openLogIn, openTls } from './log-in.ts'
import type { Options } from './schema.ts'
import { Session } from './session.ts'
import { LOOKUP, tokenSource } from './tokens.ts'

/** What a test replaces. */
export interface Surroundings {
  readonly random?: () => number
}

/** Opens the provider; nothing is asked before the first read. Rejects with CONFIG_INVALID. */
export async function openVault(
  name: string,
  options: Options,
  { clock, log }: ProviderContext,
  { random = Math.random }: Surroundings = {},
): Promise<Provider> {
  const { address, namespace, mount, prefix, kvVersion, ca, auth, allowReadable = false } = options
  const tls = openTls(ca, auth, allowReadable, log)
  const http = openStoreHttp(name, { address, tls, clock })
  const api = openApi({ address, namespace, http, tls })
  const shows = openLogIn(auth, allowReadable, log)
  const session = new Session(tokenSource(api, auth, shows, clock), {
    clock,
    random,
    onFailure(error, failures) {
      const fields = { provider: name, code: error.code, reason: error.reason, problem: error.message }
      log[failures === 1 ? 'warn' : 'debug'](fields, 'token could not be renewed')
    },
  })

  const ask: Ask = async (path, signal, query) => {
    const get = (token: Secret) => api.send({ path, token, signal, ...(query && { query }) })
    const token = await session.token(signal)
    const answer = await get(token)
    if (answer.status !== 403) return answer
    const other = await session.replace(token, isAboutPolicy(answer), signal)
    return other ? get(other) : answer
  }
  async function probe(signal: AbortSignal): Promise<void> {
    const answer = await ask(LOOKUP, signal)
    // A policy that forbids us to ask is an answer too: the server knows the token.
    const forbidden = isAboutPolicy(answer)
    if (answer.status !== 200 && !forbidden) throw requestError(answer, api.server, LOOKUP)
    if (!forbidden && membersOf(answer.body)['data'] === undefined) throw strangeAnswer(api.server, LOOKUP)
    await kv.version(signal)
  }
  const kv = openKv({ ask, server: api.server, mount, prefix, version: kvVersion, clock })

  return fromRecords(
    name,
    {
      read: kv.read,
      readPrevious: kv.readPrevious,
      probe: (signal) => probe(signal).catch((error) => explained(error, api, signal)),
      async close() {
        await session.close()
        await http.close()
      },
    },
    clock,
    log,
  )
}

/** Throws what the server's health says, where it answered and did not serve. */
async function explained(error: unknown, api: Api, signal: AbortSignal): Promise<never> {
  const answered = error instanceof GmsaError && error.code === 'STORE_UNAVAILABLE' && error.reason === undefined
  const health = answered && (await api.send({ path: 'sys/health', inRoot: true, signal }).catch(() => undefined))
  throw (health && healthError(health, api.server)) || error
}
