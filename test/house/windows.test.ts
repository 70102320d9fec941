import { describe, expect, test } from 'vitest'
import { RANCHER_PLUGIN } from '../../src/gmsa/credential-spec.ts'
import { every, execForm, parseDockerfile, sourcesOf } from './dockerfile.ts'
import { files, text } from './source.ts'

// No PowerShell runs these scripts here: what can be held is that they fit the rest of the project, and their form.

const parametersOf = (script: string): string[] => {
  const [, block = ''] = /\nparam\(\n([\s\S]*?)\n\)\n/.exec(script) ?? []
  return [...block.matchAll(/^ {4}\[[\w[\]]+\] \$(\w+)/gm)].map(([, name = '']) => name)
}

/** Of the list that `Get-Verb` prints, those that are used. */
const VERBS = ['Get', 'Import', 'Invoke', 'New', 'Protect', 'Read', 'Set', 'Test']
const scripts = files('deploy/windows/*.ps1')

/** Comments and strings blanked out; expressions within strings too. */
const codeOf = (script: string) =>
  script.replace(/<#[\s\S]*?#>|(?<![\w`])#[^\n]*|'[^'\n]*'|"[^"\n]*"/g, (whole) => whole.replace(/[^\n]/g, ' '))

/** What does not belong together of brackets: empty where all do. */
function unbalanced(code: string): string {
  let left = code.replace(/[^()[\]{}]/g, '')
  for (let before = ''; before !== left; ) {
    before = left
    left = left.replace(/\(\)|\[\]|\{\}/g, '')
  }
  return left
}

describe.each(scripts)('%s', (path) => {
  const script = text(path)
  const code = codeOf(script)

  test('says that it is untested, and ends at the first error', () => {
    expect(script).toMatch(/^<#\n\.SYNOPSIS\n/)
    expect(script).toContain('\n.DESCRIPTION\nUNTESTED on Windows')
    expect(script).toContain("Set-StrictMode -Version Latest\n$ErrorActionPreference = 'Stop'\n")
  })

  test('has balanced brackets, and names with approved verbs', () => {
    expect(unbalanced(code)).toBe('')
    const named = [...code.matchAll(/^function (\w+)-\w+/gm)].map(([, verb]) => verb)
    const [, own] = /(\w+)-\w+\.ps1$/.exec(path) ?? []
    for (const verb of [own, ...named]) expect(VERBS).toContain(verb)
  })

  test('explains each of its parameters, and no other', () => {
    const parameters = parametersOf(script)
    expect(parameters).not.toEqual([])
    const explained = [...script.matchAll(/^\.PARAMETER (\w+)$/gm)].map(([, name]) => name)
    expect(explained).toEqual(expect.arrayContaining(parameters))
    expect(explained).toHaveLength(parameters.length)
  })

  test('is named in the documentation', () => {
    expect(text('docs/windows.md')).toContain(path.replace('deploy/windows/', ''))
  })
})

describe('scripts for Windows', () => {
  const read = (name: string) => text(`deploy/windows/${name}.ps1`)

  test('are there', () => {
    expect(scripts).toHaveLength(4)
  })

  test('give the folder to whom the service gives it', () => {
    // The names of SDDL for what icacls calls by SID and letter.
    const sddl: Record<string, string> = { 'S-1-5-18': 'SY', 'S-1-5-20': 'NS', F: 'FA', R: 'FR' }
    const grants = text('src/server/host-files.ts').matchAll(/'\*(S-1-5-\d+):\(OI\)\(CI\)(\w)'/g)
    const entries = [...grants].map(([, sid = '', right = '']) => `(A;OICI;${sddl[right]};;;${sddl[sid]})`)
    expect(entries).toHaveLength(2)
    expect(read('Protect-GmsaProviderFolder')).toContain(`'O:SYD:P${entries.join('')}'`)
  })

  test('are in the image where the chart runs one, with parameters that it has', () => {
    const chart = text('charts/gmsa-account-provider/templates/_pod.tpl')
    const [, called = ''] = /- -File\n- C:\/hpc\/app\/(\S+)\n/.exec(chart) ?? []
    expect(scripts).toContain(called)
    const [, command = ''] = /define "gmsa.trustCa"[\s\S]*?- -File\n([\s\S]*)/.exec(chart) ?? []
    const named = [...command.matchAll(/^- -(\w+)$/gm)].map(([, name]) => name)
    expect(named).toEqual(['Namespace', 'Path', 'Remove', 'AllowUnconstrained'])
    expect(parametersOf(text(called))).toEqual(expect.arrayContaining(named))
    expect(text('deploy/windows/Dockerfile.windows')).toContain('\nCOPY deploy/windows/*.ps1 /app/deploy/windows/\n')
  })

  test('know causes that the page on troubleshooting has too', () => {
    const page = text('docs/troubleshooting.md')
    const diagnosis = read('Get-GmsaProviderDiagnosis')
    const texts = [...diagnosis.matchAll(/; Text = '([^']+)'/g)].map(([, said = '']) => said)
    const ids = [...diagnosis.matchAll(/; Id = (\d+)/g)].map(([, id = '']) => `id ${id}`)
    expect(texts.length + ids.length).toBe([...diagnosis.matchAll(/@\{ Log = /g)].length)
    for (const said of [...texts, ...ids]) expect(page).toContain(said)
    expect(diagnosis).toContain(RANCHER_PLUGIN)
  })

  test('never print the messages of the plug-in, which may hold passwords', () => {
    // One place reads a message, to look for a text in it.
    expect([...codeOf(read('Get-GmsaProviderDiagnosis')).matchAll(/\bMessage\b/g)]).toEqual([])
    expect([...read('Get-GmsaProviderDiagnosis').matchAll(/\.Message\b/g)]).toHaveLength(1)
  })
})

describe('the image for host processes', () => {
  const source = text('deploy/windows/Dockerfile.windows')
  const [build, image] = parseDockerfile(source)

  test('says that it is untested, and has the Node that the checkout is tested with, by its hash', () => {
    const runner = text('scripts/run.mjs')
    const [, version] = /const version = '([\d.]+)'/.exec(runner) ?? []
    const [, integrity] = /'win-x64': '(sha512-[^']+)'/.exec(runner) ?? []
    expect(source).toContain('# UNTESTED')
    expect(source).toContain(`ARG NODE_VERSION=${version}\n`)
    expect(source).toContain(`ARG NODE_INTEGRITY=${integrity}\n`)
  })

  test('has of the program what the Linux image has, and starts it in the same way', () => {
    const linux = parseDockerfile(text('Dockerfile')).at(-1)
    if (!build || !image || !linux) throw new Error('a stage is missing')
    const copied = every(image, 'COPY').flatMap((rest) => /\/app\/(\S+)$/.exec(rest)?.[1] ?? [])
    expect(copied).toEqual(['package.json', 'node_modules', 'dist', 'LICENSE', 'deploy/windows/'])
    expect(execForm(image, 'ENTRYPOINT').slice(1, 2)).toEqual(execForm(linux, 'ENTRYPOINT').slice(1, 2))
    expect(execForm(image, 'ENTRYPOINT').at(-1)).toBe(`C:/hpc${execForm(linux, 'ENTRYPOINT').at(-1)}`)
    expect(every(image, 'RUN')).toEqual([])
  })

  test('is given nothing of the checkout but what it copies', () => {
    const [all, ...allowed] = text('deploy/windows/Dockerfile.windows.dockerignore').trim().split('\n')
    expect(all).toBe('*')
    expect(allowed.map((line) => line.replace('!', '')).sort()).toEqual(sourcesOf(parseDockerfile(source)))
  })
})
