import { readFile } from 'node:fs/promises'
import { Command, Option } from 'commander'
import { openIdentity } from '../../agent/identity.ts'
import { makeServiceClient } from '../../agent/service-client.ts'
import { writeFileAtomically } from '../../base/atomic-file.ts'
import { systemClock } from '../../base/clock.ts'
import { GmsaError } from '../../base/errors.ts'
import { silentLog } from '../../base/log.ts'
import { enctypeName } from '../../kerberos/enctype.ts'
import { type KeytabEntry, parseKeytab } from '../../kerberos/keytab.ts'
import { formatPrincipal } from '../../kerberos/principal.ts'
import { print } from '../print.ts'

interface GetFlags {
  readonly output: string
  readonly server: string
  readonly cert: string
  readonly key: string
  readonly ca: string
  readonly for: 'acceptor' | 'initiator'
  readonly principal: readonly string[]
}

interface ListFlags {
  readonly showKeys?: boolean
  readonly json?: boolean
}

/** How long the service may take in all, in ms. */
const TIMEOUT = 9_000

/** `keytab get` and `keytab list`. */
export function keytabCommand(out: (text: string) => void = print): Command {
  const command = new Command('keytab').description('fetch a keytab from a running service, or show what one holds')
  command
    .command('get')
    .description('fetch the keytab of one account; the file is replaced as a whole and has mode 0600')
    .argument('<account>', 'the account')
    .requiredOption('-o, --output <file>', 'where to write it')
    .option('--server <url>', 'the service', 'https://localhost:8443')
    .requiredOption('--cert <file>', 'client certificate, PEM')
    .requiredOption('--key <file>', 'its private key, PEM')
    .requiredOption('--ca <file>', "the CA of the service's certificate, PEM")
    .addOption(
      new Option(
        '--for <use>',
        'acceptor: the service principals with every key; initiator: log-on with the key in force',
      )
        .choices(['acceptor', 'initiator'])
        .default('acceptor'),
    )
    .option('--principal <name>', 'only this principal; may be repeated', (name, all: string[]) => [...all, name], [])
    .action(async (account: string, flags: GetFlags) => {
      const bytes = await fetchKeytab(account, flags)
      const entries = parseKeytab(bytes)
      await writeFileAtomically(flags.output, bytes)
      out(`${flags.output}: ${summary(entries)}\n`)
    })
  command
    .command('list')
    .description('show principals, key versions, encryption types and times of a keytab file')
    .argument('<file>', 'the keytab')
    .option('--show-keys', 'show the keys too: whoever sees them is the account')
    .option('--json', 'as JSON')
    .action(async (file: string, flags: ListFlags) => out(listing(await readKeytab(file), flags)))
  return command
}

async function readKeytab(file: string): Promise<KeytabEntry[]> {
  const bytes = await readFile(file).catch((error: NodeJS.ErrnoException) => {
    throw new GmsaError('REQUEST_INVALID', `${file}: can't be read (${error.code})`)
  })
  return parseKeytab(bytes)
}

async function fetchKeytab(account: string, flags: GetFlags): Promise<Buffer> {
  const { cert: certificate, key, ca, server, for: use, principal: principals } = flags
  const identity = openIdentity({ certificate, key, ca }, silentLog)
  const client = makeServiceClient({ servers: [server], timeout: TIMEOUT, identity: identity.load, clock: systemClock })
  const { bytes } = await client.keytab({ account, use, principals })
  if (!bytes) throw new GmsaError('STORE_UNAVAILABLE', `${account}: the service answers without a keytab`)
  return bytes
}

function summary(entries: readonly KeytabEntry[]): string {
  const principals = new Set(entries.map(({ principal }) => formatPrincipal(principal)))
  const kvnos = [...new Set(entries.map(({ kvno }) => kvno))].join(', ')
  return `${entries.length} entries; kvno ${kvnos}; ${[...principals].join(', ')}`
}

function listing(entries: readonly KeytabEntry[], { showKeys = false, json = false }: ListFlags): string {
  const rows = entries.map(({ kvno, timestamp, principal, enctype, key }) => ({
    kvno,
    time: new Date(timestamp * 1000).toISOString(),
    principal: formatPrincipal(principal),
    enctype: enctypeName(enctype),
    ...(showKeys && { key: Buffer.from(key.reveal()).toString('hex') }),
  }))
  if (json) return `${JSON.stringify(rows, null, 2)}\n`
  const width = Math.max(4, ...rows.map((row) => String(row.kvno).length))
  const lines = rows.map((row) => {
    const shown = [
      String(row.kvno).padStart(width),
      row.time,
      row.principal,
      `(${row.enctype})`,
      ...(row.key ? [row.key] : []),
    ]
    return shown.join('  ')
  })
  return `${['kvno'.padStart(width), 'time'.padEnd(24), 'principal'].join('  ')}\n${lines.map((line) => `${line}\n`).join('')}`
}
