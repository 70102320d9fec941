import { ENCTYPES } from '../../kerberos/enctype.ts'
import { given } from '../config-document.ts'
import { accountName, agentDocument, CERTIFICATE_NOTE, type Imported, type Note, serviceDocument } from './imported.ts'
import { type Ini, parseIni, type Setting, splitWords } from './ini.ts'

/** What gmsad's levels are called here. */
const LEVELS: Readonly<Record<string, string>> = {
  debug: 'debug',
  info: 'info',
  warning: 'warn',
  error: 'error',
  critical: 'error',
}
/** Of msDS-SupportedEncryptionTypes ([MS-KILE] 2.2.7): what gmsad knows. */
const KNOWN_ENCTYPES = 0x18

/** The impersonation account that has to be made in place of the machine's keytab. */
const READER = 'gmsa-reader'
const READER_ADVICE = `binding with a keytab is not offered: create an ordinary user (here ${READER}), let it retrieve the gMSA's password (Set-ADServiceAccount NAME -PrincipalsAllowedToRetrieveManagedPassword ${READER}), and write secrets/${READER}.yaml with username, domainName and password`

/** All options of gmsad's sections, in lower case. */
const GENERAL = ['loglevel', 'check_interval']
const OPTIONS = [
  'principal',
  'keytab',
  'gmsa_samaccountname',
  'gmsa_domain',
  'gmsa_keytab',
  'gmsa_serviceprincipalnames',
  'gmsa_upn_in_keytab',
  'gmsa_enctypes',
  'gmsa_salt',
  'gmsa_salt_from_heuristic',
  'host',
  'tls_ca_certs_file',
  'tls_valid_names',
  'ldap_auto_bind',
  'on_spn_rotate_cmd',
  'on_upn_rotate_cmd',
]

/** One gMSA's section, its values by option. */
interface Section {
  readonly label: string
  readonly line: number
  readonly get: (name: string) => string | undefined
  /** Notes something of an option, where it is given. */
  readonly note: (name: string, advice: string) => void
}

/** Maps a configuration of gmsad 0.2 to ours. Pure; whatever it does not know is named in the notes. */
export function importGmsad(text: string): Imported {
  const ini = parseIni(text)
  const notes: Note[] = [...unknownOptions(ini)]
  const providers: Record<string, unknown> = { local: { type: 'file', directory: 'secrets' } }
  const accounts: Record<string, unknown> = {}
  const kept: Record<string, unknown> = {}
  for (const { name, line } of ini.sections) {
    if (name === 'gmsad' || name === 'DEFAULT') continue
    const section = sectionOf(ini, name, line, notes)
    const samAccountName = section.get('gmsa_samaccountname')
    const domain = section.get('gmsa_domain')
    if (samAccountName === undefined || domain === undefined || section.get('gmsa_keytab') === undefined) {
      notes.push({
        option: `[${name}]`,
        line,
        advice: 'left out: gMSA_sAMAccountName, gMSA_domain and gMSA_keytab are needed',
      })
      continue
    }
    const account = accountName(name, Object.keys(accounts))
    const provider = providerFor(section, domain, providers)
    accounts[account] = { provider, samAccountName: withDollar(samAccountName), ...keysOf(section) }
    kept[account] = filesOf(section)
  }
  const level = levelOf(ini, notes)
  notes.push(CERTIFICATE_NOTE)
  const agent = { ...agentDocument(kept), ...(level !== undefined && { log: { level } }) }
  return { service: serviceDocument(providers, accounts), agent, notes }
}

function sectionOf({ settings }: Ini, label: string, line: number, notes: Note[]): Section {
  const find = (name: string): Setting | undefined =>
    settings.findLast((each) => each.section === label && each.name === name) ??
    settings.findLast((each) => each.section === 'DEFAULT' && each.name === name)
  return {
    label,
    line,
    get: (name) => find(name)?.value,
    note(name, advice) {
      const setting = find(name)
      if (setting) notes.push({ option: `[${label}] ${setting.written}`, line: setting.line, advice })
    },
  }
}

function unknownOptions({ settings, strays }: Ini): Note[] {
  const unknown = settings.filter(({ section, name }) => {
    return !(section === 'gmsad' ? GENERAL : section === 'DEFAULT' ? [...GENERAL, ...OPTIONS] : OPTIONS).includes(name)
  })
  return [
    ...unknown.map(({ section, written, line }) => ({
      option: `[${section}] ${written}`,
      line,
      advice: 'not an option of gmsad 0.2: ignored',
    })),
    ...strays.map((line) => ({ option: 'line', line, advice: 'neither a section nor an option: ignored' })),
  ]
}

function levelOf({ settings }: Ini, notes: Note[]): string | undefined {
  const of = (name: string) => settings.findLast((each) => each.section === 'gmsad' && each.name === name)
  const interval = of('check_interval')
  if (interval) {
    const advice = 'not needed: the service says when keys change; checkInterval of the agent bounds it (1h)'
    notes.push({ option: '[gmsad] check_interval', line: interval.line, advice })
  }
  const level = of('loglevel')
  const ours = level && LEVELS[level.value.toLowerCase()]
  if (level && ours === undefined) {
    notes.push({ option: '[gmsad] loglevel', line: level.line, advice: 'not a level of gmsad: info is used' })
  }
  return ours
}

const withDollar = (name: string) => (name.endsWith('$') ? name : `${name}$`)
const isYes = (text: string | undefined) => ['1', 'yes', 'true', 'on'].includes(text?.toLowerCase() ?? '')

/** The provider for a section's directory: sections that ask the same one share it. Gives its name. */
function providerFor(section: Section, domain: string, providers: Record<string, unknown>): string {
  section.note('principal', READER_ADVICE)
  section.note('keytab', 'see principal; the keytab is not used any more')
  section.note('tls_valid_names', 'name the domain controllers in servers as their certificates do')
  const mode = section.get('ldap_auto_bind')?.toUpperCase()
  if (mode === undefined || mode === 'NONE' || mode === 'NO_TLS') {
    section.note('ldap_auto_bind', 'the directory is asked over LDAPS: without TLS it gives no password')
  }
  if (section.get('tls_ca_certs_file') === undefined) {
    section.note(
      'gmsa_domain',
      "no tls_ca_certs_file: the system's authorities are used for the domain controllers; set ca for others",
    )
  }
  const host = section.get('host')
  const options = given({
    type: 'active-directory',
    domain: domain.toLowerCase(),
    servers: host === undefined ? undefined : [host],
    transport: mode?.startsWith('TLS_') ? 'starttls' : undefined,
    ca: section.get('tls_ca_certs_file'),
    bind: { provider: 'local', account: READER },
  })
  const same = Object.entries(providers).find(([, other]) => JSON.stringify(other) === JSON.stringify(options))
  const name = same?.[0] ?? accountName(domain.replaceAll('.', '-'), Object.keys(providers))
  providers[name] = options
  return name
}

/** What the service is to know of the account's keys. */
function keysOf(section: Section): Record<string, unknown> {
  const mask = Number(section.get('gmsa_enctypes') ?? KNOWN_ENCTYPES)
  const enctypes = ENCTYPES.filter(({ bit }) => (bit & KNOWN_ENCTYPES & mask) !== 0).map(({ word }) => word)
  if (!Number.isInteger(mask) || (mask & ~KNOWN_ENCTYPES) !== 0) {
    section.note(
      'gmsa_enctypes',
      'only 8 (AES-128) and 16 (AES-256) are carried over, as in gmsad; add rc4 to enctypes if it must be',
    )
  }
  if (section.get('gmsa_salt') === undefined) {
    section.note('gmsa_salt_from_heuristic', 'not needed: the salt is always computed; set salt for a renamed account')
  }
  const both = enctypes.length === 2 || enctypes.length === 0
  const services = servicesOf(section)
  return given({
    servicePrincipalNames: services.length > 0 ? services : undefined,
    enctypes: both ? undefined : enctypes,
    salt: section.get('gmsa_salt'),
  })
}

function servicesOf(section: Section): string[] {
  const names = (section.get('gmsa_serviceprincipalnames') ?? '').split(',').map((each) => each.trim())
  return names.filter((each) => each !== '')
}

/** What the agent is to keep: the SPNs as an acceptor, the account itself as an initiator. */
function filesOf(section: Section): Record<string, unknown> {
  const file = section.get('gmsa_keytab')
  const services = servicesOf(section).length > 0
  const own = !services || isYes(section.get('gmsa_upn_in_keytab'))
  section.note(
    'gmsa_keytab',
    'it will have mode 0600: set mode, owner and group for a service that runs as another user',
  )
  if (!services) {
    section.note(
      'gmsa_samaccountname',
      'without SPNs the file is for logging on; where a service takes tickets with it, make it acceptorKeytab',
    )
  }
  return given({
    acceptorKeytab: services ? { file, ...hookOf(section, 'on_spn_rotate_cmd') } : undefined,
    initiatorKeytab: own ? { file, ...hookOf(section, 'on_upn_rotate_cmd') } : undefined,
  })
}

function hookOf(section: Section, name: string): Record<string, unknown> {
  const text = section.get(name)
  if (text === undefined) return {}
  const command = splitWords(text)
  if (command !== undefined && command.length > 0) return { onChange: { command } }
  section.note(name, 'not a command line: an open quote, or nothing in it')
  return {}
}
