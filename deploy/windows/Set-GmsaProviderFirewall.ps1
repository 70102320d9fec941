<#
.SYNOPSIS
Lets the machine that reads the metrics reach the admin listener of this node, and nobody else.

.DESCRIPTION
UNTESTED on Windows: written from the documentation, run by nobody yet.

The data listener needs no rule: it is on loopback. The admin listener shows no secret, but health, metrics and names of
accounts. Inbound connections that no rule allows are refused by default; this script changes no other rule.

.PARAMETER Namespace
Names the rule, so that several services on a node have one each.

.PARAMETER AdminPort
`admin.port` of the configuration.

.PARAMETER RemoteAddress
Addresses or subnets that may connect: those of the scraper. Words such as Any or Internet, and ranges, are not taken.

.PARAMETER Remove
Takes the rule away.

.EXAMPLE
.\Set-GmsaProviderFirewall.ps1 -Namespace contoso-ad -AdminPort 9464 -RemoteAddress 10.1.2.0/24
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'Set')]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')]
    [string] $Namespace,

    [Parameter(Mandatory, ParameterSetName = 'Set')]
    [ValidateRange(1, 65535)]
    [int] $AdminPort,

    [Parameter(Mandatory, ParameterSetName = 'Set')]
    [ValidatePattern('^[0-9A-Fa-f.:]+(/[1-9][0-9]{0,2})?$')]
    [string[]] $RemoteAddress,

    [Parameter(Mandatory, ParameterSetName = 'Remove')]
    [switch] $Remove
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$name = "gmsa-account-provider-$Namespace-admin"
if (-not $PSCmdlet.ShouldProcess($name, $(if ($Remove) { 'remove the firewall rule' } else { 'set the firewall rule' }))) { return }

Get-NetFirewallRule -Name $name -ErrorAction SilentlyContinue | Remove-NetFirewallRule
if ($Remove) { return }
$rule = @{
    Name = $name
    DisplayName = "gMSA account provider $Namespace (health and metrics)"
    Direction = 'Inbound'
    Action = 'Allow'
    Protocol = 'TCP'
    LocalPort = $AdminPort
    RemoteAddress = $RemoteAddress
}
New-NetFirewallRule @rule | Out-Null
