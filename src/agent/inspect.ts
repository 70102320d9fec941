import { constants } from 'node:fs'
import { access, lstat, readFile, stat } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import type { FileOwner } from '../base/atomic-file.ts'
import { GmsaError } from '../base/errors.ts'
import { MAX_CCACHE_BYTES } from '../kerberos/ccache.ts'
import { MAX_KEYTAB_BYTES } from '../kerberos/keytab.ts'
import type { HookConfig, OutputConfig } from './config.ts'
import { parseExisting } from './keytab-files.ts'
import { expectNoLink, expectOwnFolder, leaseFolders } from './lease.ts'
import { resolveOwner } from './owner.ts'
import { locateFile, readBounded } from './target.ts'

// What the agent would find at its start, looked at without writing anything: not even a file for a moment.

/** One line about an output's file and its folder. Rejects with a GmsaError where the file could not be kept. */
export async function inspectFile(output: OutputConfig): Promise<string> {
  const { file, mode, lease } = output
  const owner = await resolveOwner(output)
  const missing = lease && (await firstMissing(leaseFolders(lease)))
  if (missing !== undefined) {
    await expectWritable(dirname(missing), file)
    await expectOwner(owner, file, undefined)
    return `${file}: not there yet, nor is ${missing}`
  }
  if (lease) await expectNoLink(file)
  const path = await locateFile(file)
  await expectWritable(dirname(path), file)
  await expectOwner(owner, file, dirname(path))
  const most = output.kind === 'ccache' ? MAX_CCACHE_BYTES : MAX_KEYTAB_BYTES
  const found = await readBounded(path, most, { mode, ...owner })
  if (!found) return `${file}: not there yet`
  try {
    const entries = output.kind === 'ccache' || found.bytes.length === 0 ? [] : parseExisting(found.bytes, file)
    const held = output.kind === 'ccache' ? 'there' : `${entries.length} entries`
    return `${file}: ${held}${found.asWished ? '' : ', with another mode or owner than asked for'}`
  } finally {
    found.bytes.fill(0)
  }
}

/** One line about what an output's hook needs. Rejects with a GmsaError where it could not run. */
export async function inspectHook(hook: HookConfig): Promise<string> {
  if ('command' in hook) return findProgram(hook.command[0])
  await readFile(hook.pidFile).catch((error: NodeJS.ErrnoException) => {
    throw new GmsaError('STORE_UNAVAILABLE', `${hook.pidFile}: can't be read (${error.code})`)
  })
  return `${hook.signal} by ${hook.pidFile}`
}

/** Rejects with CONFIG_INVALID where no file can be made in the folder. */
export async function expectWritable(folder: string, file: string): Promise<void> {
  await access(folder, constants.W_OK | constants.X_OK).catch((error: NodeJS.ErrnoException) => {
    throw new GmsaError('CONFIG_INVALID', `${file}: its folder can't be written (${error.code})`, { cause: error })
  })
}

/** The first folder that is not there; the others have to be fit for a lease. */
async function firstMissing(folders: readonly string[]): Promise<string | undefined> {
  for (const folder of folders) {
    const missing = await lstat(folder).then(
      () => false,
      ({ code }: NodeJS.ErrnoException) => code === 'ENOENT',
    )
    if (missing) return folder
    await expectOwnFolder(folder)
  }
  return undefined
}

/** CAP_CHOWN of capabilities(7). */
const CAP_CHOWN = 1n

/** Rejects with CONFIG_INVALID where this process could not give its files to that owner and group. */
async function expectOwner({ uid, gid }: FileOwner, file: string, folder: string | undefined): Promise<void> {
  const { geteuid, getegid, getgroups } = process
  if (await mayGiveAway(geteuid?.())) return
  const groups = [
    getegid?.(),
    ...(getgroups?.() ?? []),
    folder === undefined ? undefined : await inheritedGroup(folder),
  ]
  if ((uid === undefined || uid === geteuid?.()) && (gid === undefined || groups.includes(gid))) return
  throw new GmsaError('CONFIG_INVALID', `${file}: owner ${uid ?? 'as is'}, group ${gid ?? 'as is'} can't be set`, {
    hint: 'only root gives files away; others may give a group they are in, or make the folder setgid',
  })
}

async function mayGiveAway(euid: number | undefined): Promise<boolean> {
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '')
  const [, effective] = /^CapEff:\s*([0-9a-f]+)$/m.exec(status) ?? []
  return effective === undefined ? euid === 0 : (BigInt(`0x${effective}`) & CAP_CHOWN) !== 0n
}

/** The setgid bit of a folder (inode(7)). */
const SETGID = 0o2000

/** The group that files made in a setgid folder have. */
async function inheritedGroup(folder: string): Promise<number | undefined> {
  const { mode, gid } = await stat(folder)
  return (mode & SETGID) === 0 ? undefined : gid
}

/** As spawn(3) looks: a name with a slash is a path, any other is looked for in PATH. */
async function findProgram(program: string): Promise<string> {
  const folders = program.includes('/') ? [''] : (process.env['PATH'] ?? '').split(delimiter)
  for (const folder of folders) {
    const path = folder === '' ? program : join(folder, program)
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (found) return path
  }
  throw new GmsaError('STORE_UNAVAILABLE', `${program}: no such program, or it can't be run`)
}
