import type { Secret } from '../../base/secret.ts'
import { encodePath, type HttpTls, type StoreAnswer, type StoreHttp, type StoreRequest } from '../http.ts'

export interface ApiRequest extends Pick<StoreRequest, 'body' | 'signal'> {
  readonly method?: 'POST'
  /** Below /v1, as people write it. */
  readonly path: string
  readonly query?: string
  readonly token?: Secret
  /** Set for what is there in the root namespace alone. */
  readonly inRoot?: boolean
}

/** The server's HTTP interface: its headers, and nothing of what answers mean. */
export interface Api {
  /** Its host and port, for messages. */
  readonly server: string
  send(request: ApiRequest): Promise<StoreAnswer>
  /** PEM of the client certificate that connections show at present. */
  certificate(): Promise<string | undefined>
}

export interface ApiOptions {
  readonly address: string
  readonly namespace?: string | undefined
  readonly http: StoreHttp
  readonly tls: () => Promise<HttpTls>
}

export function openApi({ address, namespace, http, tls }: ApiOptions): Api {
  // Without the first header a listener with require_request_header, or an agent with it, serves nothing.
  const always = { 'x-vault-request': 'true' }
  const within = namespace === undefined ? {} : { 'x-vault-namespace': namespace }
  return {
    server: new URL(address).host,
    send({ path, query = '', token, inRoot = false, ...request }) {
      const headers = { ...always, ...(!inRoot && within), ...(token && { 'x-vault-token': token.revealText() }) }
      return http.request({ ...request, path: `/v1${encodePath(path)}${query}`, headers })
    },
    certificate: async () => (await tls()).cert,
  }
}
