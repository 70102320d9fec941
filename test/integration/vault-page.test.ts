import { spawnSync } from 'node:child_process'
import { delimiter, dirname } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openBao } from '../../scripts/setup-python.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { openVault } from '../../src/providers/vault/open.ts'
import { makePki } from '../fakes/pki.ts'
import { blocksOf } from '../house/markdown.ts'
import { text } from '../house/source.ts'
import { type OpenBao, startOpenBao } from '../lab/openbao.ts'
import { needs } from '../lab/skip.ts'
import { makeSecretFolder, type SecretFolder } from '../providers/vault/rig.ts'

const blocks = blocksOf(text('docs/providers/vault.md'))
const commands = blocks.filter(({ language }) => language === '').map((block) => block.text)
const block = (start: string) => commands.find((each) => each.startsWith(start)) ?? ''

describe.skipIf(!needs('openbao'))("the commands of Vault's page, typed for a real OpenBao,", () => {
  let bao: OpenBao
  let files: SecretFolder
  let env: Record<string, string>

  beforeAll(async () => {
    bao = await startOpenBao()
    files = await makeSecretFolder()
    await files.write('ca.crt', bao.ca)
    await files.write('client-ca.crt', (await makePki()).ca.certificate)
    const { auth } = await bao.admin('POST', 'auth/token/create', {})
    const PATH = [dirname(openBao), process.env['PATH']].join(delimiter)
    env = { PATH, HOME: files.path('.'), BAO_ADDR: bao.address, BAO_CACERT: files.path('ca.crt') }
    env['BAO_TOKEN'] = String(Reflect.get(Object(auth), 'client_token'))
    await bao.admin('POST', 'sys/mounts/kv', { type: 'kv', options: { version: '2' } })
    const [policy] = blocks.filter(({ language }) => language === 'hcl')
    await bao.admin('PUT', 'sys/policies/acl/gmsa', { policy: policy?.text ?? '' })
  })
  afterAll(async () => {
    await bao?.[Symbol.asyncDispose]()
    await files?.[Symbol.asyncDispose]()
  })

  function type(script: string, input = ''): string {
    const options = { cwd: files.path('.'), env, input, encoding: 'utf8', timeout: 30_000 } as const
    const { status, stdout, stderr } = spawnSync('bash', ['-e', '-c', script], options)
    expect([script, status, stderr]).toEqual([script, 0, ''])
    return stdout
  }

  test('store a credential and make a role, with which the service reads it under the policy of the page', async () => {
    type(block('bao kv put'), 'correct horse')
    const roleId = /^[0-9a-f-]{36}$/m.exec(type(block('bao auth enable approle')))?.[0] ?? ''
    const auth = { method: 'approle', roleId, secretIdFile: files.path('secret-id') } as const
    const options = { address: bao.address, mount: 'kv', prefix: 'gmsa', ca: files.path('ca.crt'), auth }
    await using provider = await openVault('vault', options, { log: silentLog, clock: systemClock })
    const account = { name: 'contoso-ccg', secret: 'contoso-ccg', options: {} }
    const credential = await provider.reads.credential?.(account, AbortSignal.timeout(10_000))
    expect(credential).toMatchObject({ username: 'svc-ccg', domainName: 'ad.example.com' })
    expect(credential?.password.revealText()).toBe('correct horse')
  })

  test('make the other ways to log in', () => {
    // The issuer of the page is nobody: what would ask it is left out. And this OpenBao runs in no pod.
    const here = (script: string) =>
      script
        .replace(/^.*oidc_discovery_url.*\n/m, '')
        .replace(/kubernetes_host=\S+/, '$& disable_local_ca_jwt=true kubernetes_ca_cert=@ca.crt')
    const others = commands.filter((each) => /^bao auth enable (?!approle)/.test(each))
    expect(others).toHaveLength(3)
    for (const each of others) type(here(each))
  })
})
