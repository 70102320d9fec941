import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openProviders } from '../../src/cli/open-providers.ts'
import { parseManagedPassword } from '../../src/gmsa/managed-password.ts'
import { makePki } from '../fakes/pki.ts'
import { keepingLog, makeRig, type Rig } from '../fakes/rig.ts'
import type { Domain } from './domain.ts'
import type { ShiftedClock } from './shifted-clock.ts'

const DAY = 86_400_000

/** The real service over a domain of the lab, with the account web01, by a clock that a test moves. */
export async function makeDirectoryRig(domain: Domain, clock: ShiftedClock): Promise<Rig> {
  const passwordFile = join(domain.state, 'bind-password')
  await writeFile(passwordFile, domain.ccg.password, { mode: 0o600 })
  const options = {
    domain: domain.dns,
    servers: [domain.ip],
    transport: 'ldaps',
    timeout: '5s',
    ca: domain.ca,
    bind: { username: domain.ccg.username, domainName: domain.dns, passwordFile },
  }
  const { log } = keepingLog()
  const providers = await openProviders(new Map([['ad', { type: 'active-directory', options }]]), { log, clock })
  const match = { uri: 'spiffe://localhost/client/test' }
  return makeRig({
    pki: await makePki({ notBefore: new Date(Date.now() - DAY), notAfter: new Date(Date.now() + 365 * DAY) }),
    providers,
    clock,
    clients: [{ match, allow: ['keytab', 'managed-password'], accounts: ['web01'] }],
    config: {
      accounts: new Map([['web01', { provider: 'ad', options: { samAccountName: 'web01$' } }]]),
      limits: { requestsPerSecond: 100_000 },
    },
  })
}

/** By how many ms the clock is ahead, in whole seconds, when the account's password changes next. */
export async function nextChange(rig: Rig, clock: ShiftedClock): Promise<number> {
  const { bytes } = await rig.get('/v1/accounts/web01/managed-password')
  const { queryInterval } = parseManagedPassword(bytes)
  return Math.floor((clock.ahead + Number(queryInterval / 10_000n)) / 1000) * 1000
}
