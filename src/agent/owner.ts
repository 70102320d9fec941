import { readFile } from 'node:fs/promises'
import type { FileOwner } from '../base/atomic-file.ts'
import { GmsaError } from '../base/errors.ts'

/** The system's lists of users and groups (passwd(5), group(5)). */
export interface NameFiles {
  readonly passwd: string
  readonly group: string
}

const NAME_FILES: NameFiles = { passwd: '/etc/passwd', group: '/etc/group' }

/**
 * The numbers of a user and a group, each given by name or number. Names are looked up in /etc/passwd and /etc/group
 * alone: those of a directory service have to be given as numbers. Rejects with CONFIG_INVALID.
 */
export async function resolveOwner(
  { owner, group }: { readonly owner?: string; readonly group?: string },
  files = NAME_FILES,
): Promise<FileOwner> {
  const uid = owner === undefined ? undefined : await lookUp(owner, files.passwd)
  const gid = group === undefined ? undefined : await lookUp(group, files.group)
  return { ...(uid !== undefined && { uid }), ...(gid !== undefined && { gid }) }
}

/** Both files have the name first and the number third. */
async function lookUp(name: string, file: string): Promise<number> {
  if (/^[0-9]{1,9}$/.test(name)) return Number(name)
  const text = await readFile(file, 'utf8').catch(() => '')
  const line = text.split('\n').find((each) => each.startsWith(`${name}:`))
  const [, , number = ''] = line?.split(':') ?? []
  if (/^[0-9]{1,10}$/.test(number)) return Number(number)
  throw new GmsaError('CONFIG_INVALID', `${name}: not in ${file}`, { hint: 'give the number instead of the name' })
}
