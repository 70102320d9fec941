<#
.SYNOPSIS
Says why a container does not get its gMSA: looks at the plug-in's registration, the host files and the event logs.

.DESCRIPTION
UNTESTED on Windows: written from Microsoft's documents and public reports, run by nobody yet. Texts of events are
matched in English.

Changes nothing, and prints one object for each finding: what was looked at, whether it is good, the likely cause and what
to look at next. Messages of the plug-in itself are never printed: with its debug switch on they hold passwords.
docs/troubleshooting.md has the same causes as a table.

.PARAMETER Namespace
`ccg.namespace` of the configuration, the first part of PluginInput. Left out: host files are not looked at.

.PARAMETER Hours
How far back events are read.

.PARAMETER PluginGuid
The plug-in; left out, Rancher's.

.PARAMETER Directory
`ccg.directory` of the configuration.

.EXAMPLE
.\Get-GmsaProviderDiagnosis.ps1 -Namespace contoso-ad | Format-List
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding()]
param(
    [ValidatePattern('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')]
    [string] $Namespace,

    [ValidateRange(1, 720)]
    [int] $Hours = 24,

    [guid] $PluginGuid = 'E4781092-F116-4B79-B55E-28EB6A224E26',

    [string] $Directory = 'C:\var\lib\rancher\gmsa'
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

# The first row that fits counts. Without Text, the id alone does; without Id, the text does.
$causes = @(
    @{ Log = 'Microsoft-Windows-Containers-CCG/Admin'; Text = 'configured identity is incorrect'
        Cause = 'the COM+ application of the plug-in runs as a user who is not logged on'; Next = 'it has to run as NetworkService' }
    @{ Log = 'Microsoft-Windows-Containers-CCG/Admin'; Text = 'failed to instantiate the plugin'
        Cause = 'the plug-in is not registered, or the spec has its GUID without braces'; Next = 'gmsa-account-provider check --credspec FILE' }
    @{ Log = 'Microsoft-Windows-Containers-CCG/Admin'; Id = 4
        Cause = 'the plug-in is not registered, or the spec has its GUID without braces'; Next = 'gmsa-account-provider check --credspec FILE' }
    @{ Log = 'Microsoft-Windows-Containers-CCG/Admin'; Text = 'attempted logon is invalid'
        Cause = 'user or password are wrong, or the user may not read the gMSA'; Next = 'gmsa-account-provider doctor ACCOUNT' }
    @{ Log = 'Microsoft-Windows-Containers-CCG/Admin'; Text = 'directory service is not available'
        Cause = 'no domain controller is found from this node'; Next = 'DNS of the node, port 53 over TCP' }
    @{ Log = 'Microsoft-Windows-Hyper-V-Compute-Admin'; Id = 11507
        Cause = 'the container got no credential from CCG'; Next = 'the CCG log at that time' }
    @{ Log = 'Application'; Provider = 'Application'; Id = 301
        Cause = 'the plug-in failed: no port file, no connection, no trust, or an answer without a body'
        Next = 'the audit log of the service at that time, then the host files' }
    @{ Log = 'Application'; Provider = 'Application'; Id = 101
        Cause = 'the debug switch of the plug-in is on: PASSWORDS are in this event log'
        Next = 'remove enable-logs.txt, clear the log, change the password' }
)

function New-Finding([string] $Where, [bool] $Good, [string] $Cause, [string] $Next = '', $Time = $null) {
    [pscustomobject] @{ Where = $Where; Good = $Good; Cause = $Cause; Next = $Next; Time = $Time }
}

function Test-Registration {
    $where = "HKLM:\SYSTEM\CurrentControlSet\Control\CCG\COMClasses\{$PluginGuid}"
    $good = Test-Path -LiteralPath $where
    New-Finding $where $good $(if ($good) { 'registered' } else { 'the plug-in is not registered' }) 'the installer of the plug-in'
}

function Test-HostFile {
    $folder = Join-Path $Directory $Namespace
    if (-not [Security.Principal.WindowsIdentity]::GetCurrent().IsSystem) {
        return New-Finding $folder $false 'not looked at: only SYSTEM sees into it' 'run this as SYSTEM'
    }
    $debug = Join-Path $folder 'enable-logs.txt'
    if (Test-Path -LiteralPath $debug) {
        New-Finding $debug $false 'the plug-in writes passwords to the event log' 'remove it, clear the log, change the password'
    }
    $pfx = Join-Path $folder 'ssl\client\tls.pfx'
    if (-not (Test-Path -LiteralPath $pfx)) {
        New-Finding $pfx $false 'the plug-in has no client certificate' 'the ccg section of the configuration, the log of the service'
    }
    Test-Port (Join-Path $folder 'port.txt')
    Test-Trust (Join-Path $folder 'trusted-ca.txt')
}

function Test-Port([string] $File) {
    if (-not (Test-Path -LiteralPath $File)) {
        return New-Finding $File $false 'the service does not run, or has another namespace' 'the log of the service'
    }
    $text = [IO.File]::ReadAllText($File)
    if ($text -notmatch '\A[0-9]{1,5}\z') {
        return New-Finding $File $false 'it has more than digits: somebody else wrote it' 'restart the service'
    }
    $client = New-Object Net.Sockets.TcpClient
    try {
        $client.Connect('localhost', [int] $text)
        New-Finding $File $true "port $text answers"
    }
    catch {
        New-Finding $File $false "nothing answers on port $text" 'the log of the service'
    }
    finally {
        $client.Close()
    }
}

function Test-Trust([string] $Record) {
    if (-not (Test-Path -LiteralPath $Record)) {
        return New-Finding $Record $false 'no CA was added by us' 'Import-GmsaProviderCa.ps1, or another way to trust the CA'
    }
    $thumbprints = @(Get-Content -LiteralPath $Record | ForEach-Object { $_.Trim() } | Where-Object { $_ })
    if (-not $thumbprints) { return New-Finding $Record $false 'it is empty' 'Import-GmsaProviderCa.ps1' }
    foreach ($thumbprint in $thumbprints) {
        $good = Test-Path -LiteralPath "Cert:\LocalMachine\Root\$thumbprint"
        New-Finding $Record $good "the CA $thumbprint is $(if (-not $good) { 'not ' })trusted" 'Import-GmsaProviderCa.ps1'
    }
}

function Get-Row($EventRecord) {
    $causes | Where-Object {
        $_.Log -eq $EventRecord.LogName -and
        (-not $_.ContainsKey('Provider') -or $_.Provider -eq $EventRecord.ProviderName) -and
        (-not $_.ContainsKey('Id') -or $_.Id -eq $EventRecord.Id) -and
        (-not $_.ContainsKey('Text') -or "$($EventRecord.Message)".Contains($_.Text))
    } | Select-Object -First 1
}

function Read-Log([string] $Log) {
    $filter = @{ LogName = $Log; StartTime = (Get-Date).AddHours(-$Hours) }
    try {
        $events = @(Get-WinEvent -FilterHashtable $filter)
    }
    catch {
        # Both an empty log and one that does not exist are errors to Get-WinEvent.
        $there = [bool] (Get-WinEvent -ListLog $Log -ErrorAction SilentlyContinue)
        $cause = if ($there) { "no event in $Hours hours" } else { 'no such log: CCG is not there, or lacks its message file' }
        return New-Finding $Log $there $cause
    }
    foreach ($each in $events) {
        $row = Get-Row $each
        if ($row) { New-Finding "$Log, id $($each.Id)" $false $row.Cause $row.Next $each.TimeCreated }
        elseif ($each.Level -in 1, 2 -and $Log -ne 'Application') {
            New-Finding "$Log, id $($each.Id)" $false 'not known here' 'its message in the event viewer' $each.TimeCreated
        }
    }
}

Test-Registration
if ($Namespace) { Test-HostFile }
$causes.Log | Select-Object -Unique | ForEach-Object { Read-Log $_ }
