import { isLeaseGmsa, isLeaseId } from '../../agent/lease-names.ts'
import { given } from '../config-document.ts'
import { type ReadFile, readSpec } from './ecs-spec.ts'
import { accountName, agentDocument, CERTIFICATE_NOTE, type Imported, type Note, serviceDocument } from './imported.ts'
import { parseIni, type Setting } from './ini.ts'

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
  const named = find('cf_cred_spec_file')
  const [path = '', lease = USUAL_LEASE] = named?.value.split(':') ?? []
  const spec = await readSpec(path, named, read, notes)
  const name = spec?.name ?? 'web01'
  const secret = find(...SECRET)?.value ?? spec?.secret
  const account = accountName(name, [])
  const service = serviceDocument(providersOf(find, secret, spec?.domain, notes), {
    [account]: { provider: 'ad', samAccountName: `${name}$` },
  })
  const mode = find('cf_krb5cc_mode')?.value.replace(/^0*/, '0')
  const ccache = given({
    lease: isLeaseId(lease) ? lease : USUAL_LEASE,
    gmsa: name !== account && isLeaseGmsa(name) ? name : undefined,
    mode: mode !== undefined && /^0[46][046][04]$/.test(mode) ? mode : undefined,
    group: groupOf(find('cf_krb5cc_gid')?.value),
  })
  if (named && !isLeaseId(lease)) {
    const advice = `the name of its lease is none that is taken here: ${USUAL_LEASE} stands in its place`
    notes.push({ option: named.written, line: named.line, advice })
  }
  notes.push({
    option: 'krbdir',
    advice: `end credentials-fetcher before the agent starts: both would write ${TICKETS}`,
  })
  const leases = { directory: TICKETS }
  return { service, agent: { ...agentDocument({ [account]: { ccache } }), leases }, notes }
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
