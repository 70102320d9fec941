import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Domain } from './domain.ts'

/** A gMSA as a test wants it. */
export interface Gmsa {
  /** Its sAMAccountName without the dollar sign. */
  readonly name: string
  /** The directory takes whole cycles of ten hours: 1 day gives 20 h, 2 days give 40. */
  readonly intervalDays: number
  readonly servicePrincipalNames: readonly string[]
}

/** Who may read its password, as SDDL: ordinary users, svc-ccg one of them, or administrators alone. */
const READERS = { users: 'O:SYD:(A;;RP;;;DU)', admins: 'O:SYD:(A;;RP;;;DA)' }

/** Adds a gMSA whose password ordinary users may read. Its enctypes are RC4, AES128 and AES256. */
export async function addGmsa(domain: Domain, { name, intervalDays, servicePrincipalNames }: Gmsa): Promise<void> {
  const lines = [
    `dn: CN=${name},CN=Managed Service Accounts,@BASE@`,
    'changetype: add',
    'objectClass: msDS-GroupManagedServiceAccount',
    `sAMAccountName: ${name}$`,
    `dNSHostName: ${name}.${domain.dns}`,
    'userAccountControl: 4096',
    `msDS-ManagedPasswordInterval: ${intervalDays}`,
    'msDS-SupportedEncryptionTypes: 28',
    `msDS-GroupMSAMembership: ${READERS.users}`,
    ...servicePrincipalNames.map((each) => `servicePrincipalName: ${each}`),
  ]
  await domain.modify(`${lines.join('\n')}\n`)
}

/** Changes who may read the password of a gMSA (PrincipalsAllowedToRetrieveManagedPassword). */
export async function setReaders(domain: Domain, name: string, readers: keyof typeof READERS): Promise<void> {
  const dn = `CN=${name},CN=Managed Service Accounts,@BASE@`
  const attribute = 'msDS-GroupMSAMembership'
  await domain.modify(`dn: ${dn}\nchangetype: modify\nreplace: ${attribute}\n${attribute}: ${READERS[readers]}\n`)
}

/** msDS-KeyVersionNumber of an account at one controller, as OpenLDAP's tool reads it; `name` without the dollar sign. */
export async function keyVersionOf(domain: Domain, name: string, controller = domain.ip): Promise<number> {
  const { username, password } = domain.ccg
  const passwordFile = join(domain.state, `ldapsearch-password-${randomUUID()}`)
  await writeFile(passwordFile, password, { mode: 0o600 })
  const asWhom = ['-x', '-H', `ldaps://${controller}`, '-D', `${username}@${domain.dns}`, '-y', passwordFile]
  const what = ['-LLL', '-b', domain.base, `(sAMAccountName=${name}$)`, 'msDS-KeyVersionNumber']
  const { stdout, stderr } = await domain.run('ldapsearch', [...asWhom, ...what])
  const [, kvno] = /^msDS-KeyVersionNumber: (\d+)$/m.exec(stdout) ?? []
  if (kvno === undefined) throw new Error(`ldapsearch: no key version of ${name}: ${stderr}`)
  return Number(kvno)
}
