import { describe, expect, test } from 'vitest'
import { blocksOf } from './markdown.ts'
import { callsOf, faultsOf, functionsOf } from './powershell.ts'
import { files, text } from './source.ts'

/**
 * What is called in the scripts for Windows: names and parameters as Microsoft documents them for Windows PowerShell
 * 5.1. Nothing runs them here: a name of another spelling would be found on a node.
 */
const CMDLETS: Readonly<Record<string, readonly string[]>> = {
  'ForEach-Object': [],
  'Get-ChildItem': ['LiteralPath', 'Force'],
  'Get-Content': ['LiteralPath', 'Raw'],
  'Get-Date': [],
  'Get-Item': ['LiteralPath'],
  'Get-NetFirewallRule': ['Name'],
  'Get-WinEvent': ['FilterHashtable', 'ListLog'],
  'Join-Path': [],
  'New-Item': ['ItemType', 'Force', 'Path'],
  'New-NetFirewallRule': [],
  'New-Object': [],
  'New-ScheduledTaskAction': ['Execute', 'Argument'],
  'New-ScheduledTaskTrigger': ['AtStartup'],
  'Out-Null': [],
  'Register-ScheduledTask': ['User', 'Action', 'Trigger'],
  'Remove-Item': ['LiteralPath'],
  'Remove-NetFirewallRule': [],
  'Resolve-Path': ['LiteralPath'],
  'Select-Object': ['First', 'Unique'],
  'Set-Acl': ['LiteralPath', 'AclObject'],
  'Set-Content': ['LiteralPath', 'Value'],
  'Set-StrictMode': ['Version'],
  'Split-Path': [],
  'Start-ScheduledTask': [],
  'Test-Path': ['LiteralPath'],
  'Where-Object': [],
  'Write-Warning': [],
}
const COMMON = ['ErrorAction']

const scripts = files('deploy/windows/*.ps1').map((path) => [path, text(path)] as const)
const shown = files('docs/*.md').flatMap((path) =>
  blocksOf(text(path))
    .filter(({ language }) => language === 'powershell')
    .map(({ text: block, line }) => [`${path}:${line}`, block] as const),
)

/** Commands and parameters that nobody has, as `LINE: NAME -PARAMETER`. */
function strangersIn(script: string): string[] {
  const own = functionsOf(script)
  return callsOf(script).flatMap(({ name, parameters, line }) => {
    const known = own.get(name) ?? CMDLETS[name]
    if (!known) return [`${line}: ${name}`]
    const strange = parameters.filter((parameter) => ![...known, ...COMMON].includes(parameter))
    return strange.map((parameter) => `${line}: ${name} -${parameter}`)
  })
}

describe.each([...scripts, ...shown])('%s', (_, script) => {
  test('is PowerShell, all of it', () => {
    expect(faultsOf(script)).toEqual([])
  })

  test('calls what there is, with parameters that it has', () => {
    expect(callsOf(script)).not.toEqual([])
    expect(strangersIn(script)).toEqual([])
  })
})

describe('a fault would be named', () => {
  const [, script = ''] = scripts.find(([path]) => path.includes('Import')) ?? []

  test.each([
    ['    [Parameter(Mandatory)]', '    [Parameter(Mandatory)'],
    ['foreach ($thumbprint in', 'foreach ($thumbprint of'],
    ['    if (-not $found) { continue }', '    if (-not $found { continue }'],
    ["$basicConstraints = '2.5.29.19'", "$basicConstraints = '2.5.29.19"],
    ['| Where-Object { $_ -match', '| Where-Object { $_ -matches'],
    ['$kept += $thumbprint', '$kept += = $thumbprint)'],
  ])('where %j is %j', (good, bad) => {
    expect(script).toContain(good)
    expect(faultsOf(script.replace(good, bad))).not.toEqual([])
  })

  test('in the name of a command or of a parameter', () => {
    const strange = 'Get-Contents x\nGet-Content -LiteralPaht x\nfunction A($B) {}\nA -B 1 -C 2\n"$(Get-Foo)"\n'
    expect(strangersIn(strange)).toEqual(['1: Get-Contents', '2: Get-Content -LiteralPaht', '4: A -C', '5: Get-Foo'])
  })
})
