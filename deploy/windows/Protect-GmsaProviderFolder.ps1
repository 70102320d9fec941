<#
.SYNOPSIS
Gives the folder of the host files to SYSTEM (in full) and NetworkService (for reading), and to nobody else.

.DESCRIPTION
UNTESTED on Windows: written from the documentation, run by nobody yet.

The folder holds the plug-in's private key in a PFX without a password, so its access control list is the only thing
that guards it. The service grants the same when it starts; this script also takes rights away that the folder and files below
it were given by themselves, and makes SYSTEM their owner. Running it again changes nothing. It has to run as SYSTEM.

.PARAMETER Namespace
The folder below Directory: `ccg.namespace` of the configuration.

.PARAMETER Directory
`ccg.directory` of the configuration.

.EXAMPLE
.\Protect-GmsaProviderFolder.ps1 -Namespace contoso-ad
#>
#Requires -Version 5.1
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')]
    [string] $Namespace,

    [string] $Directory = 'C:\var\lib\rancher\gmsa'
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

# Once the folder is protected an administrator can't see into it, and would take it for empty.
if (-not [Security.Principal.WindowsIdentity]::GetCurrent().IsSystem) {
    throw 'run this as SYSTEM, for example by a scheduled task: docs/windows.md shows how'
}

function Invoke-Icacls {
    & "$env:SystemRoot\System32\icacls.exe" @args | Out-Null
    if ($LASTEXITCODE -ne 0) { throw "icacls.exe $args ended with $LASTEXITCODE" }
}

$folder = Join-Path $Directory $Namespace
if (-not $PSCmdlet.ShouldProcess($folder, 'give it to SYSTEM and NetworkService alone')) { return }
New-Item -ItemType Directory -Force -Path $folder | Out-Null

# Owner and list in one, so that at no time somebody else has a right: FA and FR are full access and reading for SYSTEM
# (SY) and NetworkService (NS), inherited by all below (OI, CI); P keeps out what the folder above would hand down.
$list = New-Object Security.AccessControl.DirectorySecurity
$list.SetSecurityDescriptorSddlForm('O:SYD:P(A;OICI;FA;;;SY)(A;OICI;FR;;;NS)')
Set-Acl -LiteralPath $folder -AclObject $list
if (Get-ChildItem -LiteralPath $folder -Force) {
    Invoke-Icacls "$folder\*" '/setowner' '*S-1-5-18' '/T' '/Q'
    Invoke-Icacls "$folder\*" '/reset' '/T' '/Q'
}
