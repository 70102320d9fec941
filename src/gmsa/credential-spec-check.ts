import { type DomainFacts, RANCHER_PLUGIN } from './credential-spec.ts'
import { isGuid } from './guid.ts'

/** Something in a credential spec that would keep it from working, or that does harm. Shows no value that could be secret. */
export interface SpecProblem {
  /** `DomainJoinConfig.Sid`. */
  readonly path: string
  readonly problem: string
  readonly hint?: string
}

type Members = Readonly<Record<string, unknown>>
type Report = (path: string, problem: string, hint?: string) => void

/** Every member there is, by where it stands: Kubernetes drops others without a word, and names are case-sensitive. */
const MEMBERS: Readonly<Record<string, readonly string[]>> = {
  '': ['CmsPlugins', 'DomainJoinConfig', 'ActiveDirectoryConfig'],
  DomainJoinConfig: ['Sid', 'MachineAccountName', 'Guid', 'DnsTreeName', 'DnsName', 'NetBiosName'],
  ActiveDirectoryConfig: ['GroupManagedServiceAccounts', 'HostAccountConfig'],
  GroupManagedServiceAccounts: ['Name', 'Scope'],
  HostAccountConfig: ['PortableCcgVersion', 'PluginGUID', 'PluginInput'],
}
const DOMAIN_SID = /^S-1-5-21(?:-\d{1,10}){3}$/
const ACCOUNT_SID = /^S-1-5-21(?:-\d{1,10}){4}$/
const DNS_NAME = /^(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+$/i
const NETBIOS_NAME = /^[^\\/:*?"<>|.\s]{1,15}$/
/** What a sAMAccountName of a computer, and so of a gMSA, has before its `$`. */
const MAX_NAME = 15
const KUBERNETES_NAME = '[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?'
const RANCHER_INPUT = new RegExp(`^${KUBERNETES_NAME}:${KUBERNETES_NAME}$`)
/** Forms of a log-on that users put where the plug-in is told what to ask for. */
const LOG_ONS: Readonly<Record<string, RegExp>> = {
  'domain:user:password': /^[^:]+:[^:]+:./,
  'domain\\user:password': /^[^:\\]+\\[^:]+:./,
  'user@domain:password': /^[^:@]+@[^:]+:./,
}
const AZURE_PLUGIN = 'CCC2A336-D7F3-4818-A213-272B7924213E'
const ECS_PLUGIN = '859E1386-BDB4-49E8-85C7-3070B13920E1'

/**
 * What is wrong with a credential spec: the document itself, or a GMSACredentialSpec manifest around it, as JSON or YAML
 * gave it. Pure; an empty list means that nothing was found.
 */
export function judgeCredentialSpec(document: unknown): SpecProblem[] {
  const problems: SpecProblem[] = []
  const report: Report = (path, problem, hint) => problems.push({ path, problem, ...(hint !== undefined && { hint }) })
  const outer = membersOf(document)
  if (!outer) {
    report('', 'expected a JSON or YAML mapping')
    return problems
  }
  const spec = 'credspec' in outer || 'kind' in outer ? manifestSpec(outer, report) : outer
  if (!spec) return problems
  judgeMembers(spec, '', report)
  judgePlugins(spec['CmsPlugins'], report)
  const domain = membersOf(spec['DomainJoinConfig'])
  if (domain) judgeDomain(domain, report)
  else report('DomainJoinConfig', 'is missing')
  const config = membersOf(spec['ActiveDirectoryConfig'])
  if (!config) {
    report('ActiveDirectoryConfig', 'is missing')
    return problems
  }
  judgeMembers(config, 'ActiveDirectoryConfig', report)
  judgeAccounts(config['GroupManagedServiceAccounts'], domain ?? {}, report)
  if (config['HostAccountConfig'] !== undefined) judgeHostAccount(config['HostAccountConfig'], report)
  return problems
}

/** Where a spec says otherwise than the directory. Case does not count in names. */
export function compareWithDomain(document: unknown, facts: DomainFacts): SpecProblem[] {
  const outer = membersOf(document) ?? {}
  const domain = membersOf((membersOf(outer['credspec']) ?? outer)['DomainJoinConfig']) ?? {}
  const expected = {
    Sid: facts.sid,
    Guid: facts.guid,
    DnsName: facts.dnsName,
    DnsTreeName: facts.dnsTreeName,
    NetBiosName: facts.netBiosName,
  }
  return Object.entries(expected).flatMap(([member, value]) => {
    const given = domain[member]
    if (typeof given === 'string' && given.toLowerCase() === value.toLowerCase()) return []
    return [{ path: `DomainJoinConfig.${member}`, problem: `the directory says ${value}` }]
  })
}

function manifestSpec(manifest: Members, report: Report): Members | undefined {
  if (manifest['kind'] !== 'GMSACredentialSpec') report('kind', 'expected GMSACredentialSpec')
  const version = manifest['apiVersion']
  if (version === 'windows.k8s.io/v1alpha1') report('apiVersion', 'is deprecated', 'use windows.k8s.io/v1')
  else if (version !== 'windows.k8s.io/v1') report('apiVersion', 'expected windows.k8s.io/v1')
  if (typeof membersOf(manifest['metadata'])?.['name'] !== 'string') report('metadata.name', 'is missing')
  const spec = membersOf(manifest['credspec'])
  if (!spec) report('credspec', 'is missing', 'the webhook refuses a resource without it')
  return spec
}

function judgeMembers(members: Members, place: string, report: Report): void {
  const known =
    MEMBERS[
      place
        .split('.')
        .at(-1)
        ?.replace(/\[\d+\]$/, '') ?? ''
    ] ?? []
  for (const member of Object.keys(members)) {
    if (known.includes(member)) continue
    const near = known.find((each) => each.toLowerCase() === member.toLowerCase())
    const path = place === '' ? member : `${place}.${member}`
    report(path, 'is not a member of a credential spec', near && `the name is ${near}: case counts`)
  }
}

function judgePlugins(value: unknown, report: Report): void {
  if (Array.isArray(value) && value.includes('ActiveDirectory')) return
  report('CmsPlugins', 'expected the list ["ActiveDirectory"]')
}

function judgeDomain(domain: Members, report: Report): void {
  judgeMembers(domain, 'DomainJoinConfig', report)
  const text = (member: string) => textOf(domain, member, 'DomainJoinConfig', report)
  const sid = text('Sid')
  if (sid !== undefined && ACCOUNT_SID.test(sid)) {
    report('DomainJoinConfig.Sid', 'is the SID of an account', 'it is that of the domain: (Get-ADDomain).DomainSID')
  } else if (sid !== undefined && !DOMAIN_SID.test(sid)) {
    report('DomainJoinConfig.Sid', 'expected the SID of the domain, S-1-5-21 and three more numbers')
  }
  const guid = text('Guid')
  if (guid !== undefined && !isGuid(guid)) {
    report('DomainJoinConfig.Guid', 'expected the GUID of the domain, without braces', '(Get-ADDomain).ObjectGUID')
  }
  judgeAccountName(text('MachineAccountName'), 'DomainJoinConfig.MachineAccountName', report)
  for (const member of ['DnsName', 'DnsTreeName']) {
    const name = text(member)
    if (name !== undefined && !DNS_NAME.test(name)) {
      report(`DomainJoinConfig.${member}`, 'expected a DNS name such as ad.example.com')
    }
  }
  const netBios = text('NetBiosName')
  if (netBios !== undefined && !NETBIOS_NAME.test(netBios)) {
    report('DomainJoinConfig.NetBiosName', 'expected a NetBIOS name: at most 15 characters and no dot')
  }
}

function judgeAccountName(name: string | undefined, path: string, report: Report): void {
  if (name === undefined) return
  if (name.endsWith('$')) report(path, 'ends in $', 'leave the $ out: the host adds it')
  else if (name.length > MAX_NAME) report(path, `has more than ${MAX_NAME} characters`)
}

function judgeAccounts(value: unknown, domain: Members, report: Report): void {
  const place = 'ActiveDirectoryConfig.GroupManagedServiceAccounts'
  if (!Array.isArray(value) || value.length === 0) {
    report(place, 'expected a list with the account')
    return
  }
  const entries = value.map((each, index) => {
    const path = `${place}[${index}]`
    const entry = membersOf(each)
    if (!entry) report(path, 'expected Name and Scope')
    else judgeMembers(entry, path, report)
    const name = entry && textOf(entry, 'Name', path, report)
    judgeAccountName(name, `${path}.Name`, report)
    return { name, scope: entry && textOf(entry, 'Scope', path, report) }
  })
  const own = domain['MachineAccountName']
  if (typeof own !== 'string' || own === '') return
  const mine = entries.filter(({ name }) => same(name, own))
  if (mine.length === 0) report(place, 'lacks the account that MachineAccountName names')
  for (const [member, what] of [
    ['DnsName', 'DNS name'],
    ['NetBiosName', 'NetBIOS name'],
  ] as const) {
    const scope = domain[member]
    if (mine.length === 0 || typeof scope !== 'string') continue
    if (!mine.some((each) => same(each.scope, scope))) {
      report(place, `lacks an entry of the account whose Scope is the ${what} of the domain`, `add { Scope: ${scope} }`)
    }
  }
}

function judgeHostAccount(value: unknown, report: Report): void {
  const place = 'ActiveDirectoryConfig.HostAccountConfig'
  const config = membersOf(value)
  if (!config) {
    report(place, 'expected PortableCcgVersion, PluginGUID and PluginInput')
    return
  }
  judgeMembers(config, place, report)
  if (config['PortableCcgVersion'] !== '1') report(`${place}.PortableCcgVersion`, 'expected the text "1"')
  const guid = textOf(config, 'PluginGUID', place, report)
  const bare = guid?.replace(/^\{|\}$/g, '').toUpperCase()
  if (guid !== undefined && !isGuid(bare ?? '')) report(`${place}.PluginGUID`, 'expected a GUID in braces')
  else if (guid !== undefined && guid !== `{${guid.slice(1, -1)}}`) {
    report(`${place}.PluginGUID`, 'lacks its braces', `without them the plug-in is not found: write {${bare}}`)
  }
  judgeInput(config['PluginInput'], bare, `${place}.PluginInput`, report)
}

/** What each plug-in expects. No part of the input stands in a message: it may be a password. */
function judgeInput(input: unknown, plugin: string | undefined, path: string, report: Report): void {
  if (plugin === ECS_PLUGIN && typeof membersOf(input)?.['CredentialArn'] === 'string') return
  if (typeof input !== 'string' || input === '') {
    report(path, 'expected a text that is not empty')
    return
  }
  if (plugin === AZURE_PLUGIN) {
    const keys = input.split(';').map((part) => part.split('=')[0]?.toLowerCase())
    if (!['objectid', 'secreturi'].every((key) => keys.includes(key))) report(path, 'expected ObjectId=…;SecretUri=…')
    return
  }
  const [logOn] = Object.keys(LOG_ONS).filter((form) => LOG_ONS[form]?.test(input))
  if (logOn) {
    report(
      path,
      `looks like ${logOn}`,
      'a password does not belong here: everybody who may read the spec sees it. Change that password',
    )
  } else if (plugin === RANCHER_PLUGIN && !RANCHER_INPUT.test(input)) {
    report(path, 'expected <namespace>:<account>, in lower case')
  }
}

function textOf(members: Members, member: string, place: string, report: Report): string | undefined {
  const value = members[member]
  if (typeof value === 'string' && value !== '') return value
  report(`${place}.${member}`, value === undefined ? 'is missing' : 'expected a text that is not empty')
  return undefined
}

function membersOf(value: unknown): Members | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : undefined
}

function same(one: string | undefined, other: string): boolean {
  return one?.toLowerCase() === other.toLowerCase()
}
