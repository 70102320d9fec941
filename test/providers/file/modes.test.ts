import { execFile, execFileSync } from 'node:child_process'
import { chmod, chown, rename, rm, statfs, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../../src/base/clock.ts'
import { file } from '../../../src/providers/file/index.ts'
import { failure } from '../../contract/provider-contract.ts'
import { FORMS, type SecretsFolder, secretsFolder, swapVolume } from './forms.ts'

const run = promisify(execFile)
const program = fileURLToPath(import.meta.resolve('./read-one.ts'))
const RECORD = JSON.stringify({ username: 'svc', password: 'pa55', domainName: 'ad.test' })
const TMPFS = 0x01021994

const isRoot = process.getuid?.() === 0
const inMemory = await statfs('/dev/shm').then(
  ({ type }) => type === TMPFS,
  () => false,
)
const onDisk = await statfs(tmpdir()).then(({ type }) => type !== TMPFS)
const canMount = isRoot && succeeds('unshare', ['-m', 'true'])
/** Whether another user can run the program at all: every folder above it has to let him through. */
const canBeNobody =
  isRoot && succeeds(process.execPath, ['-e', `require('fs').accessSync(${JSON.stringify(program)})`], 65534)

function succeeds(command: string, args: string[], uid?: number): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore', ...(uid !== undefined && { uid, gid: uid }) })
    return true
  } catch {
    return false
  }
}

/** Where it can not be shown it is skipped with its reason. */
const testWhere = (holds: boolean, reason: string) => (name: string, body: () => Promise<void>) =>
  test(name, async ({ skip }) => {
    skip(!holds, reason)
    await body()
  })
const testOnDisk = testWhere(onDisk, 'the folder for temporary files is in memory')

async function reading(mode: number, { directory }: SecretsFolder, allowReadable = false) {
  const path = join(directory, 'svc.json')
  await writeFile(path, RECORD)
  await chmod(path, mode)
  const warnings: object[] = []
  const ignore = () => {}
  const warn = (fields: object) => void warnings.push(fields)
  const log = { trace: ignore, debug: ignore, info: ignore, warn, error: ignore }
  const provider = await file.open('local', { directory, allowReadable }, { log, clock: systemClock })
  const read = async () =>
    await provider.reads.credential?.({ name: 'svc', secret: 'svc', options: {} }, AbortSignal.timeout(5_000))
  return { read, warnings }
}

describe('a secret file on a disk', () => {
  for (const mode of [0o600, 0o400, 0o700]) {
    test(`of mode ${mode.toString(8)} is taken`, async () => {
      await using folder = await secretsFolder()
      const { read, warnings } = await reading(mode, folder)
      expect(await read()).toMatchObject({ username: 'svc' })
      expect(warnings).toEqual([])
    })
  }

  for (const mode of [0o644, 0o640, 0o604, 0o660, 0o620, 0o602]) {
    testOnDisk(`of mode ${mode.toString(8)} is refused, with the command that mends it`, async () => {
      await using folder = await secretsFolder()
      const error = await failure((await reading(mode, folder)).read(), 'STORE_DENIED')
      expect(error).toMatchObject({ status: 502, reason: 'not-permitted' })
      expect(error.hint).toContain(`chmod 600 ${join(folder.directory, 'svc.json')}`)
    })
  }

  testOnDisk('of mode 644 is taken with allowReadable', async () => {
    await using folder = await secretsFolder()
    const { read, warnings } = await reading(0o644, folder, true)
    expect(await read()).toMatchObject({ username: 'svc' })
    expect(warnings).toEqual([])
  })

  testOnDisk('is judged by its own mode where a link leads to it', async () => {
    await using folder = await secretsFolder()
    const { read } = await reading(0o644, folder)
    await rename(join(folder.directory, 'svc.json'), join(folder.directory, 'real'))
    await symlink('real', join(folder.directory, 'svc.json'))
    await failure(read(), 'STORE_DENIED')
    await chmod(join(folder.directory, 'real'), 0o600)
    expect(await read()).toMatchObject({ username: 'svc' })
  })

  testOnDisk('counts as a member of a record as well', async () => {
    await using folder = await secretsFolder()
    const { read } = await reading(0o600, folder)
    await rm(join(folder.directory, 'svc.json'))
    const members = { username: 'svc', password: 'pa55', domainName: 'ad.test' }
    await FORMS['folder of members'].put(folder.directory, 'svc', members)
    expect(await read()).toMatchObject({ username: 'svc' })
    await chmod(join(folder.directory, 'svc', 'password'), 0o640)
    await failure(read(), 'STORE_DENIED')
  })
})

describe('a secret file that others can read, on a volume', () => {
  testWhere(inMemory, 'no tmpfs at /dev/shm')('in memory is taken, with one warning', async () => {
    await using folder = await secretsFolder('/dev/shm')
    const { read, warnings } = await reading(0o644, folder)
    expect(await read()).toMatchObject({ username: 'svc' })
    expect(warnings).toEqual([{ volume: '/dev/shm', path: join(folder.directory, 'svc.json') }])
    await rm(join(folder.directory, 'svc.json'))
    for (const password of ['one', 'two']) {
      await swapVolume(folder.directory, { svc: { username: 'svc', password, domainName: 'ad.test' } })
      await chmod(join(folder.directory, 'svc', 'password'), 0o644)
      expect(await read()).toMatchObject({ username: 'svc' })
    }
    expect(warnings).toHaveLength(1)
  })

  testWhere(inMemory && onDisk, 'needs a disk and a tmpfs')('in memory is known through a link', async () => {
    await using disk = await secretsFolder()
    await using memory = await secretsFolder('/dev/shm')
    await reading(0o644, memory)
    await symlink(join(memory.directory, 'svc.json'), join(disk.directory, 'through.json'))
    const { read } = await reading(0o600, disk)
    expect(await read()).toMatchObject({ username: 'svc' })
    expect(await childReads(disk.directory, 'through')).toEqual({ probe: 'ok', read: 'ok', warnings: 1 })
  })

  const testMounted = testWhere(canMount && onDisk, 'needs root, unshare(1) and a disk')
  const mounted = async (commands: string) => {
    await using folder = await secretsFolder()
    await reading(0o644, folder)
    const child = `${process.execPath} ${program} "$1" svc`
    const { stdout } = await run('unshare', ['-m', 'sh', '-ec', `${commands}; ${child}`, 'sh', folder.directory])
    return JSON.parse(stdout)
  }

  testMounted('that is read-only is taken, with a warning', async () => {
    const commands = 'mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"'
    expect(await mounted(commands)).toEqual({ probe: 'ok', read: 'ok', warnings: 1 })
  })

  testMounted('that is mounted writable is refused', async () => {
    expect(await mounted('mount --bind "$1" "$1"')).toEqual({ probe: 'ok', read: 'STORE_DENIED', warnings: 0 })
  })

  testMounted('below a read-only mount, but writable itself, is refused', async () => {
    const commands =
      'p=$(dirname "$1"); mount --bind "$p" "$p"; mount --bind "$1" "$1"; mount -o remount,ro,bind "$p"; touch "$1/w"'
    expect(await mounted(commands)).toMatchObject({ read: 'STORE_DENIED' })
  })
})

describe('files that we may not read', () => {
  const testAsNobody = testWhere(canBeNobody, 'needs root, and sources that other users may read')

  testAsNobody('are a refusal of the store, not an absent account', async () => {
    await using folder = await secretsFolder()
    await reading(0o600, folder)
    await chmod(dirname(folder.directory), 0o755)
    await chmod(folder.directory, 0o755)
    expect(await childReads(folder.directory, 'svc', 65534)).toMatchObject({ probe: 'ok', read: 'STORE_DENIED' })
    expect(await childReads(folder.directory, 'other', 65534)).toMatchObject({ read: 'ACCOUNT_NOT_FOUND' })
  })

  testAsNobody('in a folder that is closed are a refusal, also of the probe', async () => {
    await using folder = await secretsFolder()
    await reading(0o600, folder)
    await chmod(dirname(folder.directory), 0o755)
    const refused = { probe: 'STORE_DENIED', read: 'STORE_DENIED', warnings: 0 }
    expect(await childReads(folder.directory, 'svc', 65534)).toEqual(refused)
    expect(await childReads(folder.directory, 'other', 65534)).toEqual(refused)
  })

  testAsNobody('can be read where the folder may be passed but not listed', async () => {
    await using folder = await secretsFolder()
    await reading(0o600, folder)
    await chmod(dirname(folder.directory), 0o711)
    await chmod(folder.directory, 0o711)
    await chown(join(folder.directory, 'svc.json'), 65534, 65534)
    expect(await childReads(folder.directory, 'svc', 65534)).toEqual({ probe: 'ok', read: 'ok', warnings: 0 })
  })
})

async function childReads(directory: string, account: string, uid?: number) {
  const options = { cwd: '/', ...(uid !== undefined && { uid, gid: uid }) }
  const { stdout } = await run(process.execPath, [program, directory, account], options)
  return JSON.parse(stdout)
}
