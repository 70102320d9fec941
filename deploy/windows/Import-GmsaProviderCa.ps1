<#
.SYNOPSIS
Makes this machine trust the CA of the service's certificate, and no longer the one before it.

.DESCRIPTION
UNTESTED on Windows: written from the documentation, run by nobody yet. The chart's init container runs it too.

The plug-in DLL verifies the service by the machine's trusted roots, so the CA has to be among them. Only one that can't
vouch for other names is taken: it must carry name constraints, marked critical. What this script added is recorded in
trusted-ca.txt beside the host files, thumbprints, one a line; only what stands there is ever removed, and only if it is
constrained too. Never import the server's or the client's certificate. It has to run as SYSTEM.

.PARAMETER Namespace
The folder below Directory: `ccg.namespace` of the configuration.

.PARAMETER Path
The CA's certificate: a file that holds that one and no other.

.PARAMETER KeepPredecessor
While a CA is replaced by another: leaves those in place that were added before. Run it again without, later.

.PARAMETER AllowUnconstrained
Takes, and removes, a CA without name constraints as well. Whoever has its key can then pass for every server to every
program of this machine.

.PARAMETER Remove
Takes away what was added, and the record.

.PARAMETER Directory
`ccg.directory` of the configuration.

.EXAMPLE
.\Import-GmsaProviderCa.ps1 -Namespace contoso-ad -Path C:\gmsa\ca.crt

.EXAMPLE
.\Import-GmsaProviderCa.ps1 -Namespace contoso-ad -Remove
#>
#Requires -Version 5.1
[CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'Add')]
param(
    [Parameter(Mandatory)]
    [ValidatePattern('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')]
    [string] $Namespace,

    [Parameter(Mandatory, ParameterSetName = 'Add')]
    [string] $Path,

    [Parameter(ParameterSetName = 'Add')]
    [switch] $KeepPredecessor,

    [Parameter(Mandatory, ParameterSetName = 'Remove')]
    [switch] $Remove,

    [switch] $AllowUnconstrained,

    [string] $Directory = 'C:\var\lib\rancher\gmsa'
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

# Once the folder is protected an administrator can't see into it, and would take it for empty.
if (-not [Security.Principal.WindowsIdentity]::GetCurrent().IsSystem) {
    throw 'run this as SYSTEM, for example by a scheduled task: docs/windows.md shows how'
}

$basicConstraints = '2.5.29.19'
$nameConstraints = '2.5.29.30'
$trusted = 'Cert:\LocalMachine\Root'
$record = Join-Path (Join-Path $Directory $Namespace) 'trusted-ca.txt'

function Get-Extension($Certificate, [string] $Oid) {
    $Certificate.Extensions | Where-Object { $_.Oid.Value -eq $Oid }
}

function Test-Constrained($Certificate) {
    $extension = Get-Extension $Certificate $nameConstraints
    [bool] ($extension -and $extension.Critical)
}

# Thumbprints, one a line. Blank lines, spaces and whatever else somebody wrote there are passed over.
function Read-Record([string] $File) {
    if (-not (Test-Path -LiteralPath $File)) { return }
    Get-Content -LiteralPath $File | ForEach-Object { $_.Trim() } | Where-Object { $_ -match '^[0-9A-F]{40}$' }
}

function Read-Ca([string] $File) {
    $text = Get-Content -LiteralPath $File -Raw
    if ([regex]::Matches($text, '-----BEGIN CERTIFICATE-----').Count -ne 1) {
        throw "${File}: expected one certificate as PEM"
    }
    $full = (Resolve-Path -LiteralPath $File).ProviderPath
    $ca = New-Object System.Security.Cryptography.X509Certificates.X509Certificate2 $full
    $basic = Get-Extension $ca $basicConstraints
    if (-not $basic -or -not $basic.CertificateAuthority) { throw "${File}: expected the certificate of a CA" }
    if (-not ($AllowUnconstrained -or (Test-Constrained $ca))) {
        throw "${File}: expected critical name constraints: without them the CA could vouch for any server"
    }
    $ca
}

$before = @(Read-Record $record)
$ca = if ($Remove) { $null } else { Read-Ca $Path }
$kept = @(if ($ca) { $ca.Thumbprint }) + @(if ($KeepPredecessor) { $before | Where-Object { $_ -ne $ca.Thumbprint } })
if (-not $PSCmdlet.ShouldProcess($trusted, "trust $(if ($kept) { $kept -join ', ' } else { 'none of ours' })")) { return }

if ($ca) {
    New-Item -ItemType Directory -Force -Path (Split-Path $record) | Out-Null
    # First the record, with all there may be: a CA that is trusted and not recorded would stay for ever.
    Set-Content -LiteralPath $record -Value (@($ca.Thumbprint) + @($before | Where-Object { $_ -ne $ca.Thumbprint }))
    $store = Get-Item $trusted
    $store.Open('ReadWrite')
    $store.Add($ca)
    $store.Close()
}
foreach ($thumbprint in $before | Where-Object { $_ -notin $kept }) {
    $found = Get-Item "$trusted\$thumbprint" -ErrorAction SilentlyContinue
    if (-not $found) { continue }
    if ($AllowUnconstrained -or (Test-Constrained $found)) { Remove-Item "$trusted\$thumbprint" }
    else {
        # Whoever could write the record might have had another root removed. It stays there until somebody says so.
        Write-Warning "$thumbprint stays trusted: it has no name constraints, and only -AllowUnconstrained removes it"
        $kept += $thumbprint
    }
}
if ($kept) { Set-Content -LiteralPath $record -Value $kept }
elseif (Test-Path -LiteralPath $record) { Remove-Item -LiteralPath $record }
