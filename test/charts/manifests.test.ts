import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { MANIFESTS, manifestText, originLine } from '../../scripts/manifests.ts'
import { makePki, writePki } from '../fakes/pki.ts'
import { files, text } from '../house/source.ts'
import { needs } from '../lab/skip.ts'
import { at, CHART, listAt, only, parseObjects, template } from './helm.ts'
import { problemsOf } from './kubernetes.ts'
import { startMounted } from './mounted.ts'

const HELM = needs('helm')

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gmsa-manifests-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

describe('the plain manifests', () => {
  test('are all generated', () => {
    expect(files('deploy/kubernetes/*')).toEqual(MANIFESTS.map(({ path }) => path).toSorted())
  })

  test.each(MANIFESTS)('$path holds nothing but objects that their schemas know, and nothing for helm', ({ path }) => {
    const objects = parseObjects(text(path))
    expect(objects.length).toBeGreaterThan(4)
    expect(objects.flatMap(problemsOf)).toEqual([])
    expect(text(path)).not.toMatch(/helm/i)
  })

  test.each(MANIFESTS)('$path was made of what is there now: node scripts/manifests.ts', ({ path }) => {
    expect(text(path).split('\n')[2]).toBe(originLine())
  })

  test.skipIf(!HELM).each(MANIFESTS)('$path is what the chart renders', (manifest) => {
    expect(text(manifest.path)).toBe(manifestText(manifest))
  })

  test('clean up what they installed', () => {
    const [windows, cleanup] = ['windows', 'windows-cleanup'].map((name) =>
      parseObjects(text(`deploy/kubernetes/${name}.yaml`)),
    )
    const config = parse(String(at(only(windows ?? [], 'ConfigMap'), 'data', 'config.yaml')))
    const containers = listAt(only(cleanup ?? [], 'DaemonSet'), 'spec', 'template', 'spec', 'initContainers')
    expect(containers.map((container) => at(container, 'args')).filter(Boolean)).toEqual([
      ['cleanup', '--namespace', config.ccg.namespace],
    ])
  })
})

describe.skipIf(!HELM)('the notes after an installation', () => {
  /** Helm shows them only when it installs: here another template includes them. */
  function notes(...settings: readonly string[]): string {
    const chart = join(folder, 'chart')
    cpSync(CHART, chart, { recursive: true })
    const own = text('charts/gmsa-account-provider/templates/NOTES.txt')
    writeFileSync(join(chart, 'templates', '_notes.tpl'), `{{ define "test.notes" }}${own}{{ end }}`)
    writeFileSync(join(chart, 'templates', 'notes.yaml'), 'notes: {{ include "test.notes" . | toJson }}')
    const { output, said } = template({ chart, args: ['--show-only', 'templates/notes.yaml', ...settings] })
    rmSync(chart, { recursive: true })
    return output ? parse(output).notes : said
  }

  test('name the Secret to make, without a password on a command line, and the next command', () => {
    const said = notes()
    expect(said).toContain('kubectl --namespace contoso-ad create secret generic contoso-ccg-creds \\\n')
    expect(said).toContain('--from-file=password=password.txt')
    expect(said).not.toMatch(/--from-literal=password/)
    expect(said).toContain('helm --namespace contoso-ad test contoso-ccg --logs')
    expect(said).toContain('PluginInput is contoso-ad-contoso-ccg:ACCOUNT')
  })

  test('name the pod with the log where helm would look for it in another namespace', () => {
    const said = notes('--set', 'namespaceOverride=elsewhere')
    expect(said).toContain('helm --namespace contoso-ad test contoso-ccg\n')
    expect(said).toContain('kubectl --namespace elsewhere logs contoso-ccg-gmsa-account-provider-check')
    expect(notes()).not.toContain('logs contoso')
  })

  test('say where clients connect to, and which Secrets are missing', () => {
    const said = notes('--set', 'mode=deployment,port=9443,certificates.certManager.enabled=false')
    expect(said).toContain('https://contoso-ccg-gmsa-account-provider.contoso-ad.svc:9443')
    expect(said).toContain('contoso-ccg-gmsa-account-provider-ca, contoso-ccg-gmsa-account-provider-server')
  })

  test('say what a CA of your own needs, where Windows nodes are to trust it', () => {
    const brought = ['--set', 'certificates.certManager.enabled=false']
    expect(notes(...brought)).toContain('check --node-ca ca.crt')
    expect(notes()).not.toContain('--node-ca')
    for (const more of ['mode=linux', 'certificates.allowUnconstrainedCa=true'])
      expect(notes(...brought, '--set', more)).not.toContain('--node-ca')
  })

  test("say what of Rancher's values is not taken over", () => {
    const said = notes('--values', join(CHART, '../../test/charts/values/rancher-defaults.yaml'))
    expect(said).toContain('gmsa-account-provider:0.1.0 is taken instead')
    expect(said).toContain('usages, and dnsNames of the client, are not taken over')
    expect(notes()).not.toContain('not taken over')
  })
})

describe('the compose file', () => {
  const service = parse(text('deploy/compose.yaml')).services['gmsa-account-provider']
  const manifest: { version: string } = JSON.parse(text('package.json'))

  test('names the version, and gives the container as little as the chart does', () => {
    expect(service.image).toBe(`gmsa-account-provider:${manifest.version}`)
    expect(service).toMatchObject({ user: '65532:65532', read_only: true, cap_drop: ['ALL'] })
    for (const port of service.ports) expect(port).toMatch(/^127\.0\.0\.1:/)
    const container = at(
      only(parseObjects(text('deploy/kubernetes/linux.yaml')), 'DaemonSet'),
      'spec',
      'template',
      'spec',
      'containers',
      0,
    )
    expect(service.mem_limit).toBe(
      String(at(container, 'resources', 'limits', 'memory'))
        .toLowerCase()
        .replace('i', ''),
    )
  })

  /** Runs the health check of the file against another port than its own. */
  function health(port: number): number | null {
    const [, program, ...args] = service.healthcheck.test
    expect(program).toBe('/nodejs/bin/node')
    return spawnSync(
      process.execPath,
      args.map((arg: string) => arg.replace('9464', String(port))),
    ).status
  }

  test('starts the program over the mounted folder, and its health check tells alive from dead', async () => {
    await writePki(folder, await makePki())
    const tls = { certificate: 'server/tls.crt', key: 'server/tls.key', clientCa: 'ca/ca.crt' }
    mkdirSync(join(folder, 'secrets'))
    const providers = { local: { type: 'file', directory: 'secrets' } }
    const config = { tls, providers, accounts: { ccg: { provider: 'local' } }, listen: { port: 0 }, admin: { port: 0 } }
    writeFileSync(join(folder, 'config.yaml'), JSON.stringify(config))
    const [, mount = ''] = /^\.\/config:(.*):ro$/.exec(service.volumes[0]) ?? []
    const args = service.command.map((arg: string) => arg.replace(mount, folder))
    const running = await startMounted({ args, env: service.environment })
    const port = Number(at(running.said, 'admin', 'port'))
    expect(running.said['hosts']).toEqual(['0.0.0.0'])
    expect(health(port)).toBe(0)
    await running[Symbol.asyncDispose]()
    expect(health(port)).toBe(1)
  })
})
