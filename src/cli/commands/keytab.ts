import { readFile } from 'node:fs/promises'
import { request } from 'node:https'
import { Command, Option } from 'commander'
import { writeFileAtomically } from '../../base/atomic-file.ts'
import { GmsaError } from '../../base/errors.ts'
import { enctypeName } from '../../kerberos/enctype.ts'
import { type KeytabEntry, MAX_KEYTAB_BYTES, parseKeytab } from '../../kerberos/keytab.ts'
import { formatPrincipal } from '../../kerberos/principal.ts'

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
const TIMEOUT = 15_000

/** `keytab get` and `keytab list`. */
export function keytabCommand(out: (text: string) => void = (text) => process.stdout.write(text)): Command {
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
  const [cert, key, ca] = await Promise.all([flags.cert, flags.key, flags.ca].map(readPem))
  const url = URL.parse(`/v1/accounts/${encodeURIComponent(account)}/keytab`, flags.server)
  if (url?.protocol !== 'https:') throw new GmsaError('REQUEST_INVALID', '--server: expected https://HOST:PORT')
  url.searchParams.set('for', flags.for)
  for (const principal of flags.principal) url.searchParams.append('principal', principal)
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const outgoing = request(url, { cert, key, ca, agent: false, signal: AbortSignal.timeout(TIMEOUT) }, (response) => {
    const chunks: Buffer[] = []
    let length = 0
    response.on('data', (chunk: Buffer) => {
      length += chunk.length
      if (length > MAX_KEYTAB_BYTES) outgoing.destroy(new Error('the answer is larger than any keytab'))
      else chunks.push(chunk)
    })
    response.on('error', reject)
    response.on('end', () => {
      if (response.statusCode === 200) resolve(Buffer.concat(chunks))
      else reject(refusal(account, response.statusCode, response.headers['gmsa-error']))
    })
  })
  outgoing.on('error', (error: NodeJS.ErrnoException) => reject(unreachable(url, error)))
  outgoing.end()
  return promise
}

async function readPem(file: string): Promise<Buffer> {
  return readFile(file).catch((error: NodeJS.ErrnoException) => {
    throw new GmsaError('REQUEST_INVALID', `${file}: can't be read (${error.code})`)
  })
}

function refusal(account: string, status: number | undefined, code: string | string[] | undefined): GmsaError {
  const hint =
    status === 404
      ? 'the account does not exist, or the policy does not allow this certificate its keytab: look at clients[].allow'
      : 'the audit line of the service says more'
  return new GmsaError('STORE_UNAVAILABLE', `${account}: the service answers ${status} ${code ?? ''}`.trim(), { hint })
}

function unreachable({ host }: URL, error: NodeJS.ErrnoException): GmsaError {
  const what =
    error.name === 'TimeoutError' || error.name === 'AbortError'
      ? `no answer within ${TIMEOUT / 1000} s`
      : (error.code ?? error.message)
  return new GmsaError('STORE_UNAVAILABLE', `${host}: ${what}`, { cause: error })
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
