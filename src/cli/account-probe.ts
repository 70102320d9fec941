import { systemClock } from '../base/clock.ts'
import { GmsaError } from '../base/errors.ts'
import { withDeadline } from '../broker/deadline.ts'
import { formatFileTime } from '../gmsa/file-time.ts'
import type { Kind, Material } from '../gmsa/material.ts'
import { wipeRootKeys } from '../gmsa/root-key.ts'
import type { Account, Provider } from '../providers/provider.ts'

/** In this order: a store of documents offers all kinds, and says which one a record is not. */
const KINDS: readonly Kind[] = ['credential', 'managed-password', 'kerberos-keys', 'kds-root-key']

/** What the store holds of an account, whatever its kind. Rejects with a GmsaError. */
export async function readMaterial(provider: Provider, account: Account, timeout: number): Promise<Material> {
  for (const kind of KINDS) {
    const read = provider.reads[kind]
    if (!read) continue
    try {
      const material = await withDeadline<Material>((signal) => read(account, signal), timeout, systemClock)
      // Which root keys there are is all that a command says: they need not live any longer.
      if (material.kind === 'kds-root-key') wipeRootKeys(material.keys)
      return material
    } catch (error) {
      if (!(error instanceof GmsaError) || error.code !== 'KIND_NOT_OFFERED') throw error
    }
  }
  throw new GmsaError('KIND_NOT_OFFERED', `provider ${provider.name} holds nothing that can be handed out`)
}

/** One line about it, without any secret. */
export function describeMaterial(material: Material): string {
  if (material.kind === 'credential') return `credential of ${material.username}, domain ${material.domainName}`
  if (material.kind === 'kerberos-keys') return `${material.keys.length} Kerberos keys of realm ${material.realm}`
  if (material.kind === 'kds-root-key') {
    const each = material.keys.map(({ id, useStartTime }) => `${id} from ${formatFileTime(useStartTime)}`)
    return `${each.length} KDS root keys: ${each.join(', ')}`
  }
  const { account, kvno, server } = material
  const version = kvno ? `kvno ${kvno.value}${kvno.predicted ? ' (counted on)' : ''}` : 'kvno unknown'
  return `managed password of ${account.samAccountName}, domain ${account.domain}, ${version}${server ? `, from ${server}` : ''}`
}
