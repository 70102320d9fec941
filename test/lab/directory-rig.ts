import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openProviders } from '../../src/cli/open-providers.ts'
import { parseManagedPassword } from '../../src/gmsa/managed-password.ts'
import { makeCa, type Pki } from '../fakes/pki.ts'
import { keepingLog, makeRig, type Rig } from '../fakes/rig.ts'
import type { Domain } from './domain.ts'
import type { ShiftedClock } from './shifted-clock.ts'

const DAY = 86_400_000

/** Certificates that are good from yesterday on, for a year. */
export async function makeYearPki(): Promise<Pki> {
  const year = { notBefore: new Date(Date.now() - DAY), notAfter: new Date(Date.now() + 365 * DAY) }
  const ca = await makeCa(year)
  return {
    ca,
    server: await ca.issueServer(year),
    client: await ca.issue({ uri: ['spiffe://localhost/client/test'], ...year }),
  }
}

export interface DirectoryRigOptions {
  /** Names of gMSAs. `web01` unless told. */
  readonly accounts?: readonly string[]
  /** Addresses of controllers. The first one's unless told. */
  readonly servers?: readonly string[]
  /** Made anew unless told. */
  readonly pki?: Pki
}

/** The real service over a domain of the lab, by a clock that a test moves. */
export async function makeDirectoryRig(
  domain: Domain,
  clock: ShiftedClock,
  { accounts = ['web01'], servers = [domain.ip], pki }: DirectoryRigOptions = {},
): Promise<Rig> {
  // Of its own: another service of the same domain may be reading its file just now.
  const passwordFile = join(domain.state, `bind-password-${randomUUID()}`)
  await writeFile(passwordFile, domain.ccg.password, { mode: 0o600 })
  const options = {
    domain: domain.dns,
    servers,
    transport: 'ldaps',
    timeout: '5s',
    ca: domain.ca,
    bind: { username: domain.ccg.username, domainName: domain.dns, passwordFile },
  }
  const { log } = keepingLog()
  const providers = await openProviders(new Map([['ad', { type: 'active-directory', options }]]), { log, clock })
  const match = { uri: 'spiffe://localhost/client/test' }
  return makeRig({
    pki: pki ?? (await makeYearPki()),
    providers,
    clock,
    clients: [{ match, allow: ['keytab', 'managed-password'], accounts }],
    config: {
      accounts: new Map(accounts.map((name) => [name, { provider: 'ad', options: { samAccountName: `${name}$` } }])),
      limits: { requestsPerSecond: 100_000 },
    },
  })
}

/** By how many ms the clock is ahead, in whole seconds, when the account's password changes next. */
export async function nextChange(rig: Rig, clock: ShiftedClock, account = 'web01'): Promise<number> {
  const { bytes } = await rig.get(`/v1/accounts/${account}/managed-password`)
  const { queryInterval } = parseManagedPassword(bytes)
  return Math.floor((clock.ahead + Number(queryInterval / 10_000n)) / 1000) * 1000
}
