import type { Log } from '../../base/log.ts'
import type { HttpTls } from '../http.ts'
import { readCa, readPem } from '../pem-file.ts'
import type { AuthOptions } from './schema.ts'
import { secretFile, wordFile } from './secret-file.ts'

/** What a log-in sends: its body, of which some is secret. Files are read anew each time. */
export type Shows = (signal: AbortSignal) => Promise<Readonly<Record<string, string>>>

/** Where Kubernetes projects the token of the pod's service account. */
const SERVICE_ACCOUNT_TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token'

/** What `auth` shows of us. With the method `token` there is no log-in: its one member `token` is what one would give. */
export function openLogIn(auth: AuthOptions, allowReadable: boolean, log: Log): Shows {
  const word = (path = '') => wordFile(path, allowReadable, log)
  switch (auth.method) {
    case 'kubernetes':
    case 'jwt': {
      const { role = '', tokenFile = SERVICE_ACCOUNT_TOKEN } = auth
      const jwt = word(tokenFile)
      return async (signal) => ({ role, jwt: await jwt(signal) })
    }
    case 'approle': {
      const { roleId, roleIdFile, secretIdFile } = auth
      const id = roleId === undefined ? word(roleIdFile) : async () => roleId
      const secret = word(secretIdFile)
      return async (signal) => ({ role_id: await id(signal), secret_id: await secret(signal) })
    }
    case 'cert': {
      const { name } = auth
      return async () => (name === undefined ? {} : { name })
    }
    case 'token': {
      const token = word(auth.tokenFile)
      return async (signal) => ({ token: await token(signal) })
    }
  }
}

/** The CA that is trusted, and with the method `cert` what this service shows of itself. Read for each request. */
export function openTls(ca: string | undefined, auth: AuthOptions, allowReadable: boolean, log: Log) {
  const { certificate, key } = auth
  const readKey = key === undefined ? undefined : secretFile(key, allowReadable, log)
  return async (): Promise<HttpTls> => {
    const [roots, cert, secret] = await Promise.all([
      ca && readCa(ca),
      certificate && readPem(certificate, { hint: 'auth.certificate names a PEM file that this service can read' }),
      readKey?.(new AbortController().signal),
    ])
    return { ...(roots && { ca: roots }), ...(cert && { cert }), ...(secret && { key: secret }) }
  }
}
