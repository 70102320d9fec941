import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { millisecondsOf } from '../../../src/gmsa/file-time.ts'
import { startOfGkid } from '../../../src/gmsa/gkid.ts'
import { formatKeyIdentifier } from '../../../src/gmsa/key-identifier.ts'
import { openKdsRootKey } from '../../../src/providers/kds-root-key/open.ts'
import type { Options } from '../../../src/providers/kds-root-key/schema.ts'
import type { Account, Provider, ProviderContext } from '../../../src/providers/provider.ts'
import { type MovableClock, movableClock } from '../../fakes/clock.ts'
import { keepingLog, type LogLine } from '../../fakes/rig.ts'
import published from '../../vectors/gkdi.json' with { type: 'json' }

/** The root keys of the vectors, in our own form, as a document holds them. */
export const ROOT_KEYS = published.rootKeys.map(({ id, attributes }) => ({
  id,
  version: 1,
  kdfAlgorithm: attributes['msKds-KDFAlgorithmID'],
  kdfParam: attributes['msKds-KDFParam'] && Buffer.from(attributes['msKds-KDFParam'], 'hex').toString('base64'),
  data: Buffer.from(attributes['msKds-RootKeyData'], 'hex').toString('base64'),
  createTime: attributes['msKds-CreateTime'],
  useStartTime: attributes['msKds-UseStartTime'],
}))
/** The newest of them, which websvc$ came from, whatever its anchor. */
export const ROOT_KEY_ID = ROOT_KEYS.at(-1)?.id ?? ''
/** When the first password of the accounts in the vectors came into force, in ms since 1970: on an edge. */
export const FIRST = millisecondsOf(startOfGkid({ l0: 364, l1: 18, l2: 21 }))
export const ROLLOVER = 72_000_000
export const MINUTE = 60_000
export const HOUR = 3_600_000

/** What an operator writes down of websvc$. */
export const WEBSVC = {
  samAccountName: 'websvc$',
  domain: 'gmsa.example.com',
  sid: 'S-1-5-21-3043924555-947050570-3988087173-1108',
  managedPasswordInterval: 1,
  managedPasswordId: formatKeyIdentifier({
    flags: 2,
    gkid: { l0: 364, l1: 18, l2: 21 },
    rootKeyId: ROOT_KEY_ID,
    additionalInfo: new Uint8Array(0),
    domainName: 'gmsa.example.com',
    forestName: 'gmsa.example.com',
  }).toString('base64'),
} as const
const { managedPasswordId: _, ...UNANCHORED } = WEBSVC
/** The same without the identifier. */
export const BY_CREATION = { ...UNANCHORED, whenCreated: new Date(FIRST).toISOString() }

export interface OfflineRig extends AsyncDisposable {
  readonly provider: Provider
  readonly clock: MovableClock
  readonly lines: LogLine[]
  readonly folder: string
  /** Where the root keys are. */
  readonly file: string
  read(options?: Account['options'], name?: string): ReturnType<NonNullable<Provider['reads']['managed-password']>>
  /** Another process of the same configuration, at the clock's time. */
  restart(): void
}

export interface OfflineRigOptions {
  /** In ms since 1970. */
  readonly at?: number
  /** In place of a file with the root keys of the vectors. */
  readonly rootKeys?: Options['rootKeys']
  readonly text?: string
  readonly context?: Partial<ProviderContext>
  readonly options?: Partial<Options>
}

/** The provider over a file of its own and a clock that a test moves. */
export async function openRig({ at = FIRST + HOUR, ...more }: OfflineRigOptions = {}): Promise<OfflineRig> {
  const folder = await mkdtemp(join(tmpdir(), 'gmsa-offline-'))
  const file = join(folder, 'kds-root-keys.json')
  await writeFile(file, more.text ?? JSON.stringify({ rootKeys: ROOT_KEYS }), { mode: 0o600 })
  const clock = movableClock(at)
  const { log, lines } = keepingLog()
  const open = () =>
    openKdsRootKey('offline', { rootKeys: more.rootKeys ?? { file }, ...more.options }, { log, clock, ...more.context })
  let provider = open()
  return {
    get provider() {
      return provider
    },
    clock,
    lines,
    folder,
    file,
    read(options = WEBSVC, name = 'websvc') {
      const read = provider.reads['managed-password']
      if (!read) throw new Error('offers no managed password')
      return read({ name, secret: name, options }, AbortSignal.timeout(10_000))
    },
    restart() {
      provider = open()
    },
    async [Symbol.asyncDispose]() {
      await provider[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
