import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { InvalidCredentialsError } from 'ldapts'
import { systemClock } from '../../src/base/clock.ts'
import { directoryError } from '../../src/providers/active-directory/causes.ts'
import { file } from '../../src/providers/file/index.ts'
import type { Provider } from '../../src/providers/provider.ts'
import { memoryStore } from '../fakes/memory-provider.ts'
import { makePki } from '../fakes/pki.ts'
import { CREDENTIAL, makeRig } from '../fakes/rig.ts'
import lab from '../vectors/samba-dc-sample.json' with { type: 'json' }

/** Of each metric the names of its labels, sorted. */
export type Scrape = ReadonlyMap<string, ReadonlySet<string>>

const [sample] = lab.samples
const RECORDS = {
  'ccg.json': CREDENTIAL,
  'web01.json': {
    managedPassword: Buffer.from(sample?.managedPassword.raw ?? '', 'hex').toString('base64'),
    samAccountName: 'web01$',
    domain: 'ad.test',
    kvno: 3,
  },
}

/** A directory that refuses our log-on, since the account is locked, and that says which server did, with which password. */
function refusingStore(): Provider {
  const store = memoryStore('ad')
  store.fail(directoryError(new InvalidCredentialsError('AcceptSecurityContext error, data 775, v4563'), 'dc1.ad.test'))
  const watchServers = (asked: (server: string, outcome: 'ok' | 'failed') => void): Disposable => {
    asked('dc1.ad.test', 'failed')
    return { [Symbol.dispose]() {} }
  }
  const watchLogOns: Provider['watchLogOns'] = (tried) => {
    tried('current', 'refused')
    return { [Symbol.dispose]() {} }
  }
  return { ...store.provider, watchServers, watchLogOns }
}

/** What `/metrics` of a real service has after everything happened that it counts. */
export async function scrapeEverything(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'gmsa-scrape-'))
  const pki = await makePki()
  for (const [name, record] of Object.entries(RECORDS)) {
    await writeFile(join(directory, name), JSON.stringify(record), { mode: 0o600 })
  }
  for (const [name, pem] of Object.entries({ 'tls.crt': pki.client.certificate, 'tls.key': pki.client.key })) {
    await writeFile(join(directory, name), pem)
  }
  const log = { trace() {}, debug() {}, info() {}, warn() {}, error() {} }
  const local = await file.open('local', { directory }, { log, clock: systemClock })
  try {
    await using rig = await makeRig({
      pki,
      crl: await pki.ca.crl(),
      providers: new Map([
        ['local', local],
        ['ad', refusingStore()],
      ]),
      clients: [{ match: { commonName: '*' }, allow: ['credential', 'keys'], accounts: ['*'] }],
      config: {
        accounts: new Map([
          ['ccg', { provider: 'local', options: {} }],
          ['web01', { provider: 'local', options: {} }],
          ['denied', { provider: 'ad', options: {} }],
        ]),
        ccg: {
          directory: join(directory, 'host'),
          namespace: 'test',
          client: { certificate: join(directory, 'tls.crt'), key: join(directory, 'tls.key') },
        },
      },
    })
    await rig.provider('ccg')
    await rig.get('/v1/accounts/web01/keys')
    await rig.provider('denied')
    await rig.provider('ccg', { client: null }).catch(() => {})
    await writeFile(rig.files.server.certificate, 'broken')
    await rig.service.reloadTls()
    return (await rig.admin('/metrics')).body
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** Metrics with samples; a metric that is only described does not count. */
export function labelsOf(exposition: string): Scrape {
  const metrics = new Map<string, Set<string>>()
  for (const [, name = '', labels = ''] of exposition.matchAll(/^(\w+)(?:\{(.*)\})? \S+$/gm)) {
    const known = metrics.get(name) ?? new Set()
    for (const [, label = ''] of labels.matchAll(/(\w+)="/g)) known.add(label)
    metrics.set(name, known)
  }
  return metrics
}
