import { spawnSync } from 'node:child_process'
import { chmod, mkdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { LeasePlace, OutputConfig } from '../../src/agent/config.ts'
import { ticketFile } from '../../src/agent/lease.ts'
import { parseCcache } from '../../src/kerberos/ccache.ts'
import { formatPrincipal } from '../../src/kerberos/principal.ts'
import { type AgentRig, HOUR, identityOf, MINUTE, makeAgentRig, namesIn } from '../fakes/agent-rig.ts'
import { type DirectoryKdc, startDirectoryKdc } from '../fakes/directory-kdc.ts'
import { needs } from '../lab/skip.ts'

let at: AgentRig
let kdc: DirectoryKdc
let leases: string
beforeEach(async () => {
  at = await makeAgentRig()
  kdc = await startDirectoryKdc(at)
  leases = at.path('krbdir')
})
afterEach(async () => {
  await at[Symbol.asyncDispose]()
  await kdc[Symbol.asyncDispose]()
})

/** A ticket in a lease. */
function output(place: Partial<LeasePlace> = {}, more: Partial<OutputConfig> = {}): Partial<OutputConfig> {
  const lease = { directory: leases, lease: 'credspec', gmsa: 'web01', ...place }
  const ticket = { lifetime: 10 * HOUR, forwardable: false }
  return { kind: 'ccache', lease, file: ticketFile(lease), ticket, ...more }
}
const once = (...outputs: Partial<OutputConfig>[]) => at.once(outputs, { krb5Config: kdc.krb5Config })
const errorOf = async (...outputs: Partial<OutputConfig>[]) => (await once(...outputs))[0]?.error
const clientOf = async (path: string) => formatPrincipal(parseCcache(await readFile(path)).principal)
const modeOf = async (path: string) => ((await stat(path)).mode & 0o7777).toString(8)
const record = async (lease = 'credspec') =>
  JSON.parse(await readFile(join(leases, lease, `${lease}_metadata.json`), 'utf8'))

describe('T4: a ticket in a lease', () => {
  test('T4: stands where credentials-fetcher puts it, with the record of the lease beside it', async () => {
    expect(await errorOf(output())).toBeUndefined()
    const file = join(leases, 'credspec', 'web01', 'krb5cc')
    expect(await clientOf(file)).toBe('web01$@AD.TEST')
    expect(await record()).toEqual({
      krb_ticket_info: [
        {
          krb_file_path: file,
          service_account_name: 'web01',
          domain_name: 'ad.test',
          domainless_user: '',
          distinguished_name: '',
          credspec_info: '',
        },
      ],
    })
    expect(await namesIn(join(leases, 'credspec'))).toEqual(['credspec_metadata.json', 'web01'])
    expect(await namesIn(join(leases, 'credspec', 'web01'))).toEqual(['krb5cc'])
  })

  test('T4: whatever the umask, others reach the ticket and read the record; the ticket has its own mode and owner', async () => {
    const before = process.umask(0o077)
    const isRoot = process.getuid?.() === 0
    try {
      expect(await errorOf(output({}, { mode: 0o640, ...(isRoot && { owner: '1654' }) }))).toBeUndefined()
    } finally {
      process.umask(before)
    }
    const folder = join(leases, 'credspec')
    for (const each of [leases, folder, join(folder, 'web01')]) expect(await modeOf(each), each).toBe('755')
    expect(await modeOf(join(folder, 'credspec_metadata.json'))).toBe('644')
    expect(await modeOf(join(folder, 'web01', 'krb5cc'))).toBe('640')
    if (isRoot) expect(await stat(join(folder, 'web01', 'krb5cc'))).toMatchObject({ uid: 1654 })
    expect(await stat(join(folder, 'web01'))).toMatchObject({ uid: process.getuid?.() })
  })

  test.skipIf(!needs('root'))('T2, T4: the owner reaches and reads the ticket, and no other user does', async () => {
    expect(await errorOf(output({}, { owner: '1654' }))).toBeUndefined()
    for (const folder of [at.rig.directory, at.folder]) await chmod(folder, 0o711)
    const file = join(leases, 'credspec', 'web01', 'krb5cc')
    const readAs = (uid: number) => spawnSync('cat', [file], { uid, gid: uid, timeout: 10_000 }).stdout
    expect(readAs(1654)).toEqual(await readFile(file))
    expect(readAs(1655)).toHaveLength(0)
  })

  test('T4: the folder has the name of the credential spec, in its own case', async () => {
    expect(await errorOf(output({ gmsa: 'WEB01' }))).toBeUndefined()
    expect((await record()).krb_ticket_info[0].service_account_name).toBe('WEB01')
    const error = await errorOf(output({ gmsa: 'reports' }))
    expect(error?.message).toBe("the lease's folder is named reports, and the gMSA web01")
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', hint: expect.stringContaining('ccache.gmsa') })
  })

  test('T4: several accounts share a lease, and another lease has a record of its own', async () => {
    const sql = output({ gmsa: 'sql01' }, { name: 'sql01' })
    const other = output({ lease: '73099acdb5807b4bbf91', gmsa: 'web01' }, { name: 'again', account: 'web01' })
    expect((await once(output(), sql, other)).map(({ error }) => error)).toEqual([undefined, undefined, undefined])
    const names = async (lease?: string) =>
      (await record(lease)).krb_ticket_info.map((each: Record<string, string>) => each['service_account_name'])
    expect(await names()).toEqual(['web01', 'sql01'])
    expect(await names('73099acdb5807b4bbf91')).toEqual(['web01'])
    const before = await identityOf(join(leases, 'credspec', 'credspec_metadata.json'))
    await once(output(), sql, other)
    expect(await identityOf(join(leases, 'credspec', 'credspec_metadata.json'))).toBe(before)
    await once(output())
    expect(await names()).toEqual(['web01'])
  })

  test('T4: one that can’t be had yet keeps its place in the record', async () => {
    const sql = output({ gmsa: 'sql01' }, { name: 'sql01' })
    await once(output(), sql)
    await rm(join(leases, 'credspec', 'sql01', 'krb5cc'))
    const unknown = { ...sql, account: 'ghost' }
    expect((await once(output(), unknown))[1]?.error).toMatchObject({ code: 'ACCOUNT_NOT_FOUND' })
    expect((await record()).krb_ticket_info).toHaveLength(2)
  })

  test('T4: a record that somebody removed or damaged is there again within a minute or so', async () => {
    const agent = await at.start([output()], { krb5Config: kdc.krb5Config })
    await agent.ready
    const path = join(leases, 'credspec', 'credspec_metadata.json')
    const good = await readFile(path, 'utf8')
    for (const damage of [
      () => rm(path),
      () => writeFile(path, '{"krb_ticket_info":7}'),
      () => writeFile(path, 'no'),
    ]) {
      await damage()
      await at.advance(2 * MINUTE)
      expect(await readFile(path, 'utf8')).toBe(good)
    }
  })
})

describe('T4: no link on the way is followed', () => {
  const elsewhere = () => at.path('elsewhere')
  beforeEach(async () => {
    await mkdir(join(elsewhere(), 'web01'), { recursive: true })
    await writeFile(join(elsewhere(), 'krb5cc'), 'precious')
  })

  test.each<[string, (place: string) => string]>([
    ['the folder of all leases', (place) => dirname(dirname(dirname(place)))],
    ['the lease', (place) => dirname(dirname(place))],
    ["the gMSA's folder", (place) => dirname(place)],
    ['the ticket', (place) => place],
  ])('T4: in the place of %s', async (_what, of) => {
    const link = of(join(leases, 'credspec', 'web01', 'krb5cc'))
    await mkdir(dirname(link), { recursive: true })
    await symlink(link.endsWith('krb5cc') ? join(elsewhere(), 'krb5cc') : elsewhere(), link)
    const error = await errorOf(output())
    expect(error).toMatchObject({ code: 'CONFIG_INVALID' })
    expect(error?.message).toContain(`${link}: `)
    expect(await readFile(join(elsewhere(), 'krb5cc'), 'utf8')).toBe('precious')
    expect(await namesIn(elsewhere())).toEqual(['krb5cc', 'web01'])
    expect(await namesIn(join(elsewhere(), 'web01'))).toEqual([])
  })

  test('T4: one in the place of the record is replaced, and what it leads to stays', async () => {
    await mkdir(join(leases, 'credspec'), { recursive: true })
    await symlink(join(elsewhere(), 'krb5cc'), join(leases, 'credspec', 'credspec_metadata.json'))
    expect(await errorOf(output())).toBeUndefined()
    expect(await readFile(join(elsewhere(), 'krb5cc'), 'utf8')).toBe('precious')
    expect((await record()).krb_ticket_info).toHaveLength(1)
  })

  test('T4: a folder where others may write is refused, for they could put one there', async () => {
    await mkdir(join(leases, 'credspec'), { recursive: true })
    await chmod(join(leases, 'credspec'), 0o1777)
    const error = await errorOf(output())
    expect(error?.message).toBe(`${join(leases, 'credspec')}: somebody else may write there`)
    expect(await namesIn(join(leases, 'credspec'))).toEqual([])
  })

  test('T4: the folder above that of all leases has to be there, and the hint says so', async () => {
    const far = join(leases, 'a', 'b')
    expect(await errorOf(output({ directory: far }))).toMatchObject({
      code: 'CONFIG_INVALID',
      message: `${far}: can't be made (ENOENT)`,
      hint: `make ${join(leases, 'a')} first`,
    })
  })
})
