import { Secret } from '../../base/secret.ts'
import { fileTimeOf } from '../../gmsa/file-time.ts'
import { formatManagedPassword } from '../../gmsa/managed-password.ts'
import type { ManagedPassword } from '../../gmsa/material.ts'
import { deriveOffline, type OfflinePassword } from '../../gmsa/offline.ts'
import { wipeRootKeys } from '../../gmsa/root-key.ts'
import type { Account, Provider, ProviderContext } from '../provider.ts'
import { entryOf, type OfflineEntry } from './account.ts'
import { openKvnos } from './kvno.ts'
import { openRootKeys } from './root-keys.ts'
import type { Options } from './schema.ts'
import { trustedClock } from './trusted-clock.ts'

/** Opens the provider; nothing is read before the first derivation. Throws CONFIG_INVALID. */
export function openKdsRootKey(name: string, options: Options, context: ProviderContext): Provider {
  const rootKeys = openRootKeys(name, options, context)
  const clock = trustedClock(context.clock)
  const kvnos = openKvnos(name, options.allowReadable ?? false, context)

  /** What a domain controller would answer at this moment. Root keys live no longer than this takes. */
  async function derive(entry: OfflineEntry, signal: AbortSignal): Promise<OfflinePassword & { readonly now: number }> {
    clock()
    const { keys } = await rootKeys.read(signal)
    try {
      const now = clock()
      return { ...deriveOffline(entry, keys, fileTimeOf(now)), now }
    } finally {
      wipeRootKeys(keys)
    }
  }

  async function readManaged(account: Account, signal: AbortSignal): Promise<ManagedPassword> {
    const entry = entryOf(account)
    const { now, ...password } = await derive(entry, signal)
    const { blob, inForce } = password
    try {
      const kvno = await kvnos.of(account, entry, password, signal)
      return {
        kind: 'managed-password',
        blob: new Secret(formatManagedPassword(blob)),
        receivedAt: now,
        ...(kvno && { kvno }),
        passwordId: inForce,
        account: {
          samAccountName: entry.samAccountName,
          domain: entry.domain,
          sid: entry.sidText,
          servicePrincipalNames: entry.servicePrincipalNames,
          managedPasswordInterval: entry.intervalDays,
        },
      }
    } finally {
      blob.current.wipe()
      blob.previous?.wipe()
    }
  }

  const watches = new Set<Disposable>()
  const watch = rootKeys.watch && watching(rootKeys.watch, watches)
  return {
    name,
    reads: { 'managed-password': readManaged },
    async probe(signal) {
      clock()
      wipeRootKeys((await rootKeys.read(signal)).keys)
    },
    ...(watch && { watch }),
    async [Symbol.asyncDispose]() {
      for (const each of watches) each[Symbol.dispose]()
      watches.clear()
    },
  }
}

/** Root keys that change may change the password of every account. */
function watching(
  watch: (changed: () => void) => Disposable,
  watches: Set<Disposable>,
): NonNullable<Provider['watch']> {
  return (changed) => {
    const inner = watch(() => changed())
    watches.add(inner)
    return {
      [Symbol.dispose]() {
        if (watches.delete(inner)) inner[Symbol.dispose]()
      },
    }
  }
}
