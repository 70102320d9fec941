import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { judgeSpecFile } from '../../src/cli/credential-spec-report.ts'
import { makeCredentialSpec } from '../../src/gmsa/credential-spec.ts'
import { formatCredentialSpec } from '../../src/server/credential-spec-text.ts'
import { runCli } from '../fakes/cli.ts'

const domain = {
  sid: 'S-1-5-21-1-2-3',
  guid: '8665abd4-e947-4dd0-9a51-f8254943c90b',
  dnsName: 'ad.test',
  dnsTreeName: 'ad.test',
  netBiosName: 'AD',
}
const spec = makeCredentialSpec({ domain, samAccountName: 'web01$' })
const json = formatCredentialSpec(spec, 'docker', 'web01')

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gmsa-spec-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function fileOf(contents: string | Uint8Array): Promise<string> {
  const path = join(folder, 'spec')
  await writeFile(path, contents)
  return path
}

describe('P1: a credential spec in a file', () => {
  test.each<[string, string | Uint8Array]>([
    ['JSON', json],
    ['JSON with a byte order mark', `\ufeff${json}`],
    ['JSON as PowerShell writes it', Buffer.from(`\ufeff${json}`, 'utf16le')],
    ['a manifest', formatCredentialSpec(spec, 'kubernetes', 'web01')],
  ])('is read as %s', async (_, contents) => {
    const file = await fileOf(contents)
    expect(await judgeSpecFile(file)).toEqual([
      { subject: 'credential spec', state: 'ok', detail: `${file}: well formed` },
    ])
  })

  test('is compared with the directory where that is known', async () => {
    const [finding, ...more] = await judgeSpecFile(await fileOf(json), { ...domain, sid: 'S-1-5-21-1-2-4' })
    expect(finding).toMatchObject({ state: 'failed', detail: 'DomainJoinConfig.Sid the directory says S-1-5-21-1-2-4' })
    expect(more).toEqual([])
  })

  test.each<[string, string | Uint8Array, RegExp]>([
    ['nothing', '', /expected a JSON or YAML mapping/],
    ['half a document', '{"PluginInput": "a:b:Kanari"', /spec:1:\d+: neither JSON nor YAML/],
    ['aliases without end', 'a: &a [x]\nb: *a\n', /YAML aliases are not taken/],
    ['more than any spec', ' '.repeat(256 * 1024 + 1), /more than 262144 bytes/],
  ])('that is %s is named, and not quoted', async (_, contents, said) => {
    const findings = await judgeSpecFile(await fileOf(contents))
    expect(findings[0]).toMatchObject({ state: 'failed' })
    expect(findings[0]?.detail).toMatch(said)
    expect(JSON.stringify(findings)).not.toContain('Kanari')
  })

  test('that is not there is named', async () => {
    expect(await judgeSpecFile(join(folder, 'none'))).toMatchObject([{ state: 'failed', code: 'REQUEST_INVALID' }])
  })

  test('is judged by `check --credspec`, which needs no configuration', async () => {
    const good = await runCli(['check', '--credspec', await fileOf(json)], { cwd: folder })
    expect(good).toMatchObject({ code: 0, stderr: '' })
    const bad = await runCli(['check', '--json', '--credspec', await fileOf(json.replace('"web01"', '"web01$"'))], {
      cwd: folder,
    })
    expect(bad.code).toBe(1)
    expect(JSON.parse(bad.stdout)).toMatchObject({
      ok: false,
      findings: [{ hint: 'leave the $ out: the host adds it' }, {}],
    })
  })
})
