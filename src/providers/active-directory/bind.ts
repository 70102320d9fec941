import { readFile } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import type { Clock } from '../../base/clock.ts'
import { GmsaError, isOutage } from '../../base/errors.ts'
import type { ImpersonationCredential } from '../../gmsa/material.ts'
import type { Provider, ProviderContext } from '../provider.ts'
import { decodeCredential } from '../records.ts'
import { SecretFiles } from '../secret-files.ts'
import { certificateError, directoryError } from './causes.ts'
import type { Connection } from './connection.ts'
import { bindName, logOn } from './directory.ts'

/** `bind` as configured: one of three forms, see {@link openBind}. */
export interface BindOptions {
  readonly provider?: string
  readonly account?: string
  readonly username?: string
  readonly domainName?: string
  readonly passwordFile?: string
  readonly certificate?: string
  readonly key?: string
}

/** How this service identifies itself to a directory. Nothing is kept: each log-on reads its secret anew. */
export interface Bind {
  /** What the TLS handshake shows; empty unless the bind is by certificate. */
  tls(): Promise<{ readonly cert?: string; readonly key?: string }>
  /** Logs on. Rejects with STORE_DENIED and the reason, or with an error of the store that holds the credential. */
  logOn(connection: Connection, signal: AbortSignal): Promise<void>
  /** Whether this error came from where the credential is kept, so that no other controller would help. */
  isOurs(error: GmsaError): boolean
}

/** The forms, by the members that each consists of. */
const FORMS = [
  ['provider', 'account'],
  ['username', 'domainName', 'passwordFile'],
  ['certificate', 'key'],
] as const

/** First back-off in ms after a wrong password, and the longest: fewer tries than a usual lock-out threshold counts. */
const FIRST_WAIT = 30_000
const MAX_WAIT = 15 * 60_000

/** Told of each log-on that was tried with a password. */
export type OnTry = Parameters<NonNullable<Provider['watchLogOns']>>[0]

/** Checks the form of `bind` and prepares it. Throws CONFIG_INVALID. */
export function openBind(provider: string, bind: BindOptions, context: ProviderContext, onTry: OnTry = () => {}): Bind {
  const given = Object.keys(bind).sort().join()
  const form = FORMS.find((members) => members.toSorted().join() === given)?.[0]
  if (form === undefined) {
    const forms = FORMS.map((members) => members.join(' + '))
    throw new GmsaError('CONFIG_INVALID', `providers.${provider}.bind: expected ${forms.join(', or ')}`)
  }
  if (form === 'certificate') return certificateBind(bind.certificate ?? '', bind.key ?? '')
  const source = form === 'provider' ? otherStore(provider, bind, context) : passwordFile(bind, context)
  return passwordBind(source, context, onTry)
}

/** Where the credential comes from; `previous` gives the one before it, undefined where there is none. */
interface CredentialSource {
  current(signal: AbortSignal): Promise<ImpersonationCredential>
  previous(signal: AbortSignal): Promise<ImpersonationCredential | undefined>
}

function otherStore(
  provider: string,
  { provider: store = '', account = '' }: BindOptions,
  { readCredential }: ProviderContext,
): CredentialSource {
  if (!readCredential || store === provider) {
    throw new GmsaError('CONFIG_INVALID', `providers.${provider}.bind.provider: expected another provider`)
  }
  const named = (error: unknown) => {
    if (!(error instanceof GmsaError)) throw error
    throw bindError(error, `the credential ${account} of provider ${store}`)
  }
  return {
    current: (signal) => readCredential(store, account, signal).catch(named),
    previous: (signal) => readCredential(store, account, signal, 'previous').catch(() => undefined),
  }
}

function passwordFile(
  { username = '', domainName = '', passwordFile: path = '' }: BindOptions,
  context: ProviderContext,
): CredentialSource {
  const files = new SecretFiles(dirname(path), false, context.log)
  return {
    previous: async () => undefined,
    async current(signal) {
      try {
        const text = await files.read(files.directory, basename(path), signal)
        if (text === undefined) throw new GmsaError('ACCOUNT_NOT_FOUND', `${path}: no such file`)
        // A line break that an editor left at the end is dropped.
        return decodeCredential({ username, domainName, password: text.replace(/\r?\n$/, '') }, username)
      } catch (error) {
        if (!(error instanceof GmsaError)) throw error
        throw bindError(error, 'passwordFile')
      }
    },
  }
}

/** Absence or damage of *our* credential must not look like that of the account asked for. */
function bindError(error: GmsaError, what: string): GmsaError {
  return new GmsaError(isOutage(error) ? error.code : 'STORE_DENIED', `bind: ${what}: ${error.message}`, {
    cause: error,
    ...(error.reason === undefined ? {} : { reason: error.reason }),
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  })
}

function passwordBind(
  source: CredentialSource,
  { clock, log }: Pick<ProviderContext, 'clock' | 'log'>,
  onTry: OnTry,
): Bind {
  const ours = new WeakSet<GmsaError>()
  const brakes = { current: passwordBrake(clock), previous: passwordBrake(clock) }
  let used: keyof typeof brakes = 'current'

  async function current(signal: AbortSignal): Promise<ImpersonationCredential> {
    try {
      return await source.current(signal)
    } catch (error) {
      if (error instanceof GmsaError) ours.add(error)
      throw error
    }
  }

  /** Resolves to the refusal of this password, or to nothing when it is taken. Rejects when neither was said. */
  async function refusal(
    connection: Connection,
    credential: ImpersonationCredential,
    which: keyof typeof brakes,
  ): Promise<GmsaError | undefined> {
    const brake = brakes[which]
    const before = brake.refusal(credential)
    if (before) return before
    try {
      await logOn(connection.client, bindName(credential.username, credential.domainName), credential.password)
    } catch (thrown) {
      const error = directoryError(thrown, connection.host)
      const isRefusal = error.reason === 'bad-password'
      onTry(which, isRefusal ? 'refused' : 'failed')
      if (!isRefusal) throw error
      brake.apply(credential, error)
      return error
    }
    onTry(which, 'ok')
    brake.release()
    if (used !== which) log.warn({ server: connection.host, credential: which }, 'logged on with another credential')
    used = which
    return undefined
  }

  async function tryPrevious(connection: Connection, refused: ImpersonationCredential, signal: AbortSignal) {
    const credential = await source.previous(signal)
    if (!credential || sameCredential(credential, refused)) return false
    if (await refusal(connection, credential, 'previous')) return false
    brakes.current.steady()
    return true
  }

  return {
    tls: async () => ({}),
    async logOn(connection, signal) {
      let credential = await current(signal)
      let refused = await refusal(connection, credential, 'current')
      if (!refused) return
      // The password may have been changed just now, between our reading it and using it.
      const again = await current(signal)
      if (!sameCredential(again, credential)) {
        credential = again
        refused = await refusal(connection, credential, 'current')
      }
      // Or it stands in the store already, and in the directory not yet.
      if (refused && !(await tryPrevious(connection, credential, signal))) throw refused
    },
    isOurs: (error) => ours.has(error),
  }
}

interface Brake {
  /** The former refusal, where this very credential was refused and its time is not up. */
  refusal(credential: ImpersonationCredential): GmsaError | undefined
  apply(credential: ImpersonationCredential, error: GmsaError): void
  /** Another credential serves meanwhile: this one is tried again as soon as after its first refusal. */
  steady(): void
  release(): void
}

/** Keeps a wrong password from being tried again and again, which would lock the account out. */
function passwordBrake(clock: Clock): Brake {
  let refused: { credential: ImpersonationCredential; error: GmsaError; until: number; wait: number } | undefined
  const isRefused = (credential: ImpersonationCredential) =>
    refused && sameCredential(credential, refused.credential) ? refused : undefined
  return {
    refusal(credential) {
      return refused && clock.monotonic() < refused.until ? isRefused(credential)?.error : undefined
    },
    apply(credential, error) {
      const wait = Math.min((isRefused(credential)?.wait ?? FIRST_WAIT / 2) * 2, MAX_WAIT)
      refused = { credential, error, wait, until: clock.monotonic() + wait }
    },
    steady() {
      if (refused) refused.wait = FIRST_WAIT / 2
    },
    release() {
      refused = undefined
    },
  }
}

function sameCredential(a: ImpersonationCredential, b: ImpersonationCredential): boolean {
  return a.username === b.username && a.domainName === b.domainName && a.password.equals(b.password)
}

/** LDAP "Who am I?" (RFC 4532). */
const WHO_AM_I = '1.3.6.1.4.1.4203.1.11.3'

/**
 * SASL EXTERNAL ([MS-ADTS] 5.1.1.2): over LDAPS the certificate alone logs on and a bind would be an error; after
 * StartTLS the bind does it. A certificate that is not mapped leaves the connection anonymous, so we ask who we are.
 */
function certificateBind(certificate: string, key: string): Bind {
  const ours = new WeakSet<GmsaError>()
  async function read(path: string): Promise<string> {
    return readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      const problem = new GmsaError('STORE_UNAVAILABLE', `bind: ${path}: ${error.code}`, { cause: error })
      ours.add(problem)
      throw problem
    })
  }
  return {
    async tls() {
      const [cert, secret] = await Promise.all([read(certificate), read(key)])
      return { cert, key: secret }
    },
    async logOn({ client, transport, host }) {
      if (transport === 'starttls') {
        await client.bindSASL('EXTERNAL').catch((error) => {
          throw certificateError(error, host)
        })
      }
      const { value = '' } = await client.exop(WHO_AM_I)
      if (value !== '') return
      throw new GmsaError('STORE_DENIED', `${host} takes the certificate for nobody`, {
        reason: 'not-permitted',
        hint: 'map it to the account: altSecurityIdentities, or a UPN in the certificate',
      })
    },
    isOurs: (error) => ours.has(error),
  }
}
