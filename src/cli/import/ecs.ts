import { asRecord, given } from '../config-document.ts'
import { accountName, agentDocument, CERTIFICATE_NOTE, type Imported, type Note, serviceDocument } from './imported.ts'
import { parseIni, type Setting } from './ini.ts'

/** Reads a file that the configuration names; undefined where it can't be read. */
export type ReadFile = (path: string) => Promise<string | undefined>

/** The folder under which credentials-fetcher puts its tickets. */
const TICKETS = '/var/credentials-fetcher/krbdir'
const USUAL_LEASE = 'credspec'
/** The impersonation account where no secret is named. */
const READER = 'gmsa-reader'

/** Every name that credentials-fetcher knows and that is not carried over, in lower case; and what to do. */
const ADVICE: Readonly<Record<string, string>> = {
  runrenewalnondomainjoined: 'not needed: every ticket is replaced before half its life',
  credentials_fetcher_mode: 'not needed: the agent has one way of working, by its configuration file',
  ecs_gmsa_supported:
    "the ECS agent's own: leases of ECS tasks are not served; name each gMSA's credential spec by CF_CRED_SPEC_FILE",
}

/** Names that are carried over. */
const SECRET = ['credentials_fetcher_secret_name_for_domainless_gmsa', 'cfgmsasecretname']
const CARRIED = [
  ...SECRET,
  'domain_controller_gmsa',
  'cf_gmsa_distinguished_name',
  'cf_gmsa_ou',
  'cf_cred_spec_file',
  'cf_krb5cc_mode',
  'cf_krb5cc_gid',
  'ldapsearchtimeout',
]

/** What a credential spec says of its gMSA. */
interface Spec {
  readonly domain: string
  readonly name: string
  readonly arn?: string
}

/**
 * Maps configuration of credentials-fetcher to ours: lines of ecs.config, of the daemon's environment or of its own
 * file. Whatever it does not know is named in the notes; `read` gets at the credential spec.
 */
export async function importEcs(text: string, read: ReadFile): Promise<Imported> {
  const { settings, strays } = parseIni(text)
  const find = (...names: string[]): Setting | undefined =>
    settings.findLast(({ name, value }) => names.includes(name) && value !== '')
  const notes: Note[] = [
    ...settings.filter(({ name }) => !CARRIED.includes(name)).map(noteOf),
    ...strays.map((line) => ({ option: 'line', line, advice: 'not NAME=VALUE: ignored' })),
    CERTIFICATE_NOTE,
  ]
  const [path = '', lease = USUAL_LEASE] = find('cf_cred_spec_file')?.value.split(':') ?? []
  const spec = await readSpec(path, find('cf_cred_spec_file'), read, notes)
  const secret = find(...SECRET)?.value ?? spec?.arn
  const account = accountName(spec?.name ?? 'web01', [])
  const service = serviceDocument(providersOf(find, secret, spec?.domain, notes), {
    [account]: { provider: 'ad', samAccountName: `${spec?.name ?? 'web01'}$` },
  })
  const mode = find('cf_krb5cc_mode')?.value.replace(/^0*/, '0')
  const ccache = given({
    file: `${TICKETS}/${lease}/${spec?.name ?? 'web01'}/krb5cc`,
    mode: mode !== undefined && /^0[46][046][04]$/.test(mode) ? mode : undefined,
    group: groupOf(find('cf_krb5cc_gid')?.value),
  })
  notes.push({ option: 'krb5cc', advice: `make the folder of ${String(ccache['file'])}: the agent makes none` })
  return { service, agent: agentDocument({ [account]: { ccache } }), notes }
}

const groupOf = (text: string | undefined) => (text !== undefined && /^[0-9]{1,9}$/.test(text) ? Number(text) : text)

function noteOf({ name, written, line }: Setting): Note {
  const others = name.startsWith('ecs_') ? "the ECS agent's own: not touched" : 'not known: ignored'
  return { option: written, line, advice: ADVICE[name] ?? others }
}

/** The store of the impersonation account, and the directory. */
function providersOf(
  find: (...names: string[]) => Setting | undefined,
  secret: string | undefined,
  domain: string | undefined,
  notes: Note[],
): Record<string, unknown> {
  const [, region] = /^arn:[\w-]+:secretsmanager:([\w-]+):/.exec(secret ?? '') ?? []
  if (secret !== undefined && region === undefined) {
    notes.push({ option: 'region', advice: 'the region of the secret is not in its name: set providers.asm.region' })
  }
  if (secret === undefined) {
    const advice = `a domain-joined host logs on with its machine keytab, which is not offered: create an ordinary user (here ${READER}), let it retrieve the gMSA's password, and write secrets/${READER}.yaml with username, domainName and password`
    notes.push({ option: 'HOST$', advice })
  }
  const controller = find('domain_controller_gmsa')?.value
  const timeout = Number(find('ldapsearchtimeout')?.value ?? Number.NaN)
  const name = find('cf_gmsa_distinguished_name')?.value ?? find('cf_gmsa_ou')?.value
  return {
    ...(secret === undefined
      ? { local: { type: 'file', directory: 'secrets' } }
      : { asm: given({ type: 'aws-secrets-manager', region: region ?? 'eu-west-1' }) }),
    ad: given({
      type: 'active-directory',
      domain: domain ?? 'ad.example.com',
      servers: controller === undefined ? undefined : [controller],
      searchBase: name,
      timeout: timeout >= 1 && timeout <= 60 ? `${timeout}s` : undefined,
      bind: secret === undefined ? { provider: 'local', account: READER } : { provider: 'asm', account: secret },
    }),
  }
}

async function readSpec(
  path: string,
  from: Setting | undefined,
  read: ReadFile,
  notes: Note[],
): Promise<Spec | undefined> {
  const where = { option: from?.written ?? 'CF_CRED_SPEC_FILE', ...(from && { line: from.line }) }
  const text = path === '' ? undefined : await read(path)
  const spec = text === undefined ? undefined : parseSpec(text)
  if (spec) return spec
  const advice =
    text === undefined
      ? 'no credential spec to read: set the domain and the name of the gMSA in both files'
      : 'no credential spec with a domain and a gMSA: set both in both files'
  notes.push({ ...where, advice })
  return undefined
}

/** The parts of a credential spec that credentials-fetcher reads. `PluginInput` is an object for AWS. */
function parseSpec(text: string): Spec | undefined {
  let document: unknown
  try {
    document = JSON.parse(text.replace(/^\uFEFF/, ''))
  } catch {
    return undefined
  }
  const { DomainJoinConfig, ActiveDirectoryConfig } = asRecord(document)
  const { DnsName: domain } = asRecord(DomainJoinConfig)
  const { GroupManagedServiceAccounts: accounts, HostAccountConfig } = asRecord(ActiveDirectoryConfig)
  const names = (Array.isArray(accounts) ? accounts : []).map((each) => asRecord(each)['Name'])
  const name = names.find((each) => typeof each === 'string' && each !== '')
  if (typeof domain !== 'string' || typeof name !== 'string') return undefined
  const { CredentialArn: arn } = asRecord(asRecord(HostAccountConfig)['PluginInput'])
  return { domain: domain.toLowerCase(), name: name.replace(/\$$/, ''), ...(typeof arn === 'string' && { arn }) }
}
