import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Clock } from '../../../src/base/clock.ts'
import type { ImpersonationCredential } from '../../../src/gmsa/material.ts'
import type { Provider, ProviderContext } from '../../../src/providers/provider.ts'
import { openVault } from '../../../src/providers/vault/open.ts'
import type { Options } from '../../../src/providers/vault/schema.ts'
import { type FakeVault, type FakeVaultOptions, startFakeVault } from './stand-in.ts'

/** A folder for secret files, which appear whole and with mode 0600. */
export interface SecretFolder extends AsyncDisposable {
  path(name: string): string
  write(name: string, text: string, mode?: number): Promise<string>
}

export async function makeSecretFolder(): Promise<SecretFolder> {
  const directory = await mkdtemp(join(tmpdir(), 'gmsa-vault-'))
  const path = (name: string) => join(directory, name)
  return {
    path,
    async write(name, text, mode = 0o600) {
      await writeFile(path(`.${name}`), text, { mode })
      await rename(path(`.${name}`), path(name))
      return path(name)
    },
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  }
}

/** A provider on the stand-in, with what it said. */
export interface VaultRig extends AsyncDisposable {
  readonly vault: FakeVault
  readonly provider: Provider
  readonly files: SecretFolder
  /** What was logged, each line with its level and message. */
  readonly lines: Record<string, unknown>[]
  read(secret?: string, options?: Readonly<Record<string, unknown>>, signal?: AbortSignal): Promise<string>
  readPrevious(secret?: string, options?: Readonly<Record<string, unknown>>): Promise<string>
}

export interface RigOptions {
  readonly clock: Clock
  readonly server?: Omit<FakeVaultOptions, 'clock'>
  readonly auth?: (files: SecretFolder) => Options['auth']
  readonly options?: Partial<Options>
  /** Where in its span of time each renewal lies. */
  readonly random?: () => number
}

export const GOOD = { username: 'svc-ccg', password: 'pa55-Kanari', domainName: 'ad.test' }

/** Its files are there: `jwt`, `secret-id`, `role-id`, and `ca.crt`. The record `one` is {@link GOOD}. */
export async function openRig(rig: RigOptions): Promise<VaultRig> {
  const { clock, server = {}, options = {}, random = () => 0 } = rig
  const { auth = (folder) => ({ method: 'kubernetes', role: 'gmsa', tokenFile: folder.path('jwt') }) } = rig
  const vault = await startFakeVault({ ...server, clock })
  const files = await makeSecretFolder()
  await files.write('ca.crt', vault.server.ca)
  await files.write('jwt', 'jwt-1')
  await files.write('secret-id', 'secret-1\n')
  await files.write('role-id', 'role-1\n')
  vault.put('one', GOOD)
  const lines: Record<string, unknown>[] = []
  const all = { address: vault.server.address, mount: 'kv', ca: files.path('ca.crt'), auth: auth(files), ...options }
  const provider = await openVault('vault', all, { log: logTo(lines), clock }, { random })
  const textOf = ({ password }: ImpersonationCredential) => password.revealText()
  return {
    vault,
    provider,
    files,
    lines,
    async read(secret = 'one', accountOptions = {}, signal = AbortSignal.timeout(10_000)) {
      const account = { name: `name-of-${secret.replaceAll('/', '-')}`, secret, options: accountOptions }
      return textOf(await reads(provider).credential(account, signal))
    },
    async readPrevious(secret = 'one', accountOptions = {}) {
      const account = { name: `name-of-${secret}`, secret, options: accountOptions }
      return textOf(await reads(provider).previous(account, AbortSignal.timeout(10_000)))
    },
    async [Symbol.asyncDispose]() {
      await provider[Symbol.asyncDispose]()
      await vault[Symbol.asyncDispose]()
      await files[Symbol.asyncDispose]()
    },
  }
}

function reads({ reads: { credential }, readPrevious: previous }: Provider) {
  if (!credential || !previous) throw new Error('offers no credential, or not the one before')
  return { credential, previous }
}

export function logTo(lines: Record<string, unknown>[]): ProviderContext['log'] {
  const keep = (level: string) => (fields: object, message: string) => void lines.push({ ...fields, level, message })
  return { trace: keep('trace'), debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') }
}
