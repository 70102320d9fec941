import type { Clock } from '../../base/clock.ts'
import { GmsaError, toGmsaError } from '../../base/errors.ts'
import { openStoreHttp, type StoreAnswer, type StoreHttp } from '../http.ts'
import type { Access, FindAccess } from './access.ts'

export interface ApiAnswer extends StoreAnswer {
  /** Host and port of the API server, for messages. */
  readonly server: string
}

/** The API server, asked as whoever the files say we are at that moment. */
export interface Api {
  /** Rejects with STORE_UNAVAILABLE or STORE_DENIED where there is no whole answer, or a file of ours is at fault. */
  get(path: string, signal: AbortSignal): Promise<ApiAnswer>
  close(): Promise<void>
}

interface Line {
  readonly access: Access
  readonly http: StoreHttp
}

/** Makes no connection yet, but reads the files once: what is wrong with them at the start is CONFIG_INVALID. */
export async function openApi(name: string, find: FindAccess, clock: Pick<Clock, 'now'>): Promise<Api> {
  let line: Line | undefined

  /** What the files say now. A kubeconfig may name another server than before. */
  async function refresh(signal: AbortSignal): Promise<Line> {
    const access = await find(signal)
    const { address } = access
    const same = line?.access.address === address ? line.http : undefined
    const http = same ?? openStoreHttp(name, { address, tls: async () => line?.access.tls ?? access.tls, clock })
    if (!same) void line?.http.close()
    line = { access, http }
    return line
  }

  async function current(signal: AbortSignal): Promise<Line> {
    return refresh(signal).catch((thrown) => {
      signal.throwIfAborted()
      throw ownFault(toGmsaError(thrown))
    })
  }

  await refresh(new AbortController().signal).catch((thrown) => {
    throw atStart(name, toGmsaError(thrown))
  })
  return {
    async get(path, signal) {
      const first = await current(signal)
      const answer = await ask(first, path, signal)
      if (answer.status !== 401) return answer
      // What we showed may have been replaced while it was on its way.
      const next = await current(signal)
      return isSame(first.access, next.access) ? answer : ask(next, path, signal)
    },
    close: async () => line?.http.close(),
  }
}

async function ask({ access, http }: Line, path: string, signal: AbortSignal): Promise<ApiAnswer> {
  const { address, token } = access
  const headers = {
    'user-agent': 'gmsa-account-provider',
    ...(token && { authorization: `Bearer ${token.revealText()}` }),
  }
  return { ...(await http.request({ path, headers, signal })), server: new URL(address).host }
}

function isSame(one: Access, other: Access): boolean {
  const sameToken = one.token && other.token ? one.token.equals(other.token) : one.token === other.token
  return sameToken && one.tls.cert === other.tls.cert && one.address === other.address
}

function atStart(name: string, { message, hint, cause }: GmsaError): GmsaError {
  const text = message.startsWith('providers.') ? message : `providers.${name}: ${message}`
  return new GmsaError('CONFIG_INVALID', text, { cause, ...(hint !== undefined && { hint }) })
}

/** A file of ours that was sound and is not now: nothing that is wrong with the record asked for. */
function ownFault(error: GmsaError): GmsaError {
  if (error.code !== 'CONFIG_INVALID' && error.code !== 'MATERIAL_MALFORMED') return error
  return new GmsaError('STORE_UNAVAILABLE', error.message, error.hint === undefined ? {} : { hint: error.hint })
}
