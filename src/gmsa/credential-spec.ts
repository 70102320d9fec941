/** What a credential spec says of the domain, as its directory knows it. */
export interface DomainFacts {
  /** SID of the domain, `S-1-5-21-…` with three more numbers. */
  readonly sid: string
  /** objectGUID of the domain, lower case with dashes, without braces. */
  readonly guid: string
  readonly dnsName: string
  /** DNS name of the forest's root domain. */
  readonly dnsTreeName: string
  readonly netBiosName: string
}

/** Which plug-in of Container Credential Guard is asked, and with what. */
export interface HostAccount {
  /** CLSID of the plug-in, with or without braces. */
  readonly pluginGuid: string
  /** Handed to the plug-in as it is; never a password: everybody who may read the spec sees it. */
  readonly pluginInput: string
}

export interface CredentialSpecInput {
  readonly domain: DomainFacts
  /** sAMAccountName of the gMSA; one `$` at its end is dropped. */
  readonly samAccountName: string
  /** Absent: the container's host is a member of the domain. */
  readonly hostAccount?: HostAccount
  /** gMSAs that the container may use beside its own. */
  readonly additionalAccounts?: readonly { readonly name: string; readonly scope: string }[]
}

/** The document that Docker, containerd and Kubernetes take; order of members as Microsoft's samples have it. */
export interface CredentialSpec {
  readonly CmsPlugins: readonly string[]
  readonly DomainJoinConfig: {
    readonly Sid: string
    readonly MachineAccountName: string
    readonly Guid: string
    readonly DnsTreeName: string
    readonly DnsName: string
    readonly NetBiosName: string
  }
  readonly ActiveDirectoryConfig: {
    readonly GroupManagedServiceAccounts: readonly { readonly Name: string; readonly Scope: string }[]
    readonly HostAccountConfig?: {
      readonly PortableCcgVersion: string
      readonly PluginGUID: string
      readonly PluginInput: string
    }
  }
}

export type CredentialSpecFormat = 'docker' | 'kubernetes'
export const CREDENTIAL_SPEC_FORMATS: readonly CredentialSpecFormat[] = ['docker', 'kubernetes']

/** CLSID of Rancher's plug-in, which asks an account provider such as this service. */
export const RANCHER_PLUGIN = 'E4781092-F116-4B79-B55E-28EB6A224E26'

/** The credential spec of one gMSA: its name in the scope of the domain's DNS and NetBIOS names, then the others. */
export function makeCredentialSpec(input: CredentialSpecInput): CredentialSpec {
  const { domain, hostAccount, additionalAccounts = [] } = input
  const name = withoutDollar(input.samAccountName)
  const scopes = [domain.dnsName, domain.netBiosName].map((Scope) => ({ Name: name, Scope }))
  const others = additionalAccounts.map((each) => ({ Name: withoutDollar(each.name), Scope: each.scope }))
  return {
    CmsPlugins: ['ActiveDirectory'],
    DomainJoinConfig: {
      Sid: domain.sid,
      MachineAccountName: name,
      Guid: domain.guid,
      DnsTreeName: domain.dnsTreeName,
      DnsName: domain.dnsName,
      NetBiosName: domain.netBiosName,
    },
    ActiveDirectoryConfig: {
      GroupManagedServiceAccounts: [...scopes, ...others],
      ...(hostAccount && {
        HostAccountConfig: {
          PortableCcgVersion: '1',
          // Without its braces the plug-in is not found.
          PluginGUID: `{${hostAccount.pluginGuid.replace(/^\{|\}$/g, '')}}`,
          PluginInput: hostAccount.pluginInput,
        },
      }),
    },
  }
}

function withoutDollar(name: string): string {
  return name.replace(/\$$/, '')
}
