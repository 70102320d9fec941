import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { parse } from 'yaml'
import { checkCommand } from '../../src/cli/commands/check.ts'
import { CREDENTIAL, call, type Reply } from '../fakes/rig.ts'
import { needs } from '../lab/skip.ts'
import { kubeconfigText, startApiServer } from '../providers/kubernetes/stand-in.ts'
import { issueCertificates } from './certificates.ts'
import { at, configurationOf, listAt, only, podsOf, render, VALUE_SETS } from './helm.ts'
import type { KubernetesObject } from './kubernetes.ts'
import { type Contents, environmentOf, mountRelease, startMounted } from './mounted.ts'

const HELM = needs('helm')
const OPENSSL = HELM && needs('openssl')
/** Loopback has more addresses than one: this one is the pod's. */
const POD_IP = '127.0.0.2'

let folder: string
beforeEach(async () => {
  // Secrets are mounted from memory, where a mode for the group is no fault.
  folder = await mkdtemp(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'gmsa-release-'))
})
afterEach(async () => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
  await rm(folder, { recursive: true, force: true })
})

describe.skipIf(!HELM)('the configuration of a release', () => {
  test.each(HELM ? VALUE_SETS : ['any values'])('with %s passes check --offline, without a warning', async (values) => {
    const objects = render({ values })
    const file = join(folder, 'config.yaml')
    await writeFile(file, configurationOf(objects))
    const env = environmentOf(at(podsOf(objects)[0]?.spec, 'containers', 0), POD_IP)
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)
    const printed = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
    await checkCommand().parseAsync(['--offline', '--json', '--config', file], { from: 'user' })
    const findings = [{ subject: 'configuration', state: 'ok' }]
    expect(JSON.parse(String(printed.mock.lastCall?.[0]))).toMatchObject({ ok: true, findings })
  })

  test('keeps names that YAML could take for something else', () => {
    const names = ['0123', '0x1f', '1e3', '2026-11-23', 'null', 'on']
    const { accounts } = parse(
      configurationOf(render({ args: ['--set-json', `secretNames=${JSON.stringify(names)}`] })),
    )
    expect(Object.keys(accounts).toSorted()).toEqual(names)
  })
})

/** Two ports that are free now on every address used here. */
async function freePorts(): Promise<readonly [number, number]> {
  const servers = [createServer(), createServer()].map((server) => server.listen(0))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const [one, other] = servers.map((server) => Number(at(server.address(), 'port')))
  await Promise.all(servers.map((server) => once(server.close(), 'close')))
  return [one ?? 0, other ?? 0]
}

/** Where kubelet would probe. */
const probe = (port: number, path: string): Promise<Reply> =>
  call({ host: POD_IP, port, path, agent: false }, httpRequest)

/** What a Secret of the release's own has, found by the Certificate that fills it. */
function secretOf(objects: readonly KubernetesObject[], contents: Contents, certificate: string) {
  const name = String(at(only(objects, 'Certificate', certificate), 'spec', 'secretName'))
  const { 'tls.crt': cert = '', 'tls.key': key = '', 'ca.crt': ca = '' } = contents[name] ?? {}
  return { cert, key, ca }
}

/** A Certificate like one of the release, but for some of its fields. */
function another(like: KubernetesObject, name: string, more: object): KubernetesObject {
  const spec = { ...Object(like['spec']), ...more, secretName: name }
  return { ...like, metadata: { ...like.metadata, name }, spec }
}

describe.skipIf(!OPENSSL)('the program, started from what a release mounts,', () => {
  test('serves mounted files on the address of the pod, where probes find it ready', async () => {
    const [port, adminPort] = await freePorts()
    const objects = render({ values: 'linux-files', args: ['--set', `port=${port},adminPort=${adminPort}`] })
    const uris = ['spiffe://cluster.local/ns/web/sa/web']
    const clientAlone = { commonName: 'agent', dnsNames: [], ipAddresses: [], uris, usages: ['client auth'] }
    const agent = another(only(objects, 'Certificate', '-server'), 'agent', clientAlone)
    const contents = issueCertificates([...objects, agent], folder)
    const all = { ...contents, synced: { ...CREDENTIAL } }
    await using _ = await startMounted(await mountRelease(objects, folder, { contents: all, podIp: POD_IP }))

    const container = at(podsOf(objects)[0]?.spec, 'containers', 0)
    const portOf = (name: unknown) =>
      Number(
        at(
          listAt(container, 'ports').find((each) => at(each, 'name') === name),
          'containerPort',
        ),
      )
    for (const name of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
      const { path, port: where } = Object(at(container, name, 'httpGet'))
      expect((await probe(portOf(where), path)).status, name).toBe(200)
    }
    const { ca, ...server } = secretOf(objects, contents, '-server')
    const servername = 'contoso-ccg-gmsa-account-provider.contoso-ad.svc'
    const target = { host: POD_IP, port: portOf('data'), path: '/provider', servername, ca, agent: false }
    const ask = (certificate: { readonly cert: string; readonly key: string }) =>
      call({ ...target, ...certificate, headers: { object: 'contoso-ccg' } })
    expect(JSON.parse((await ask(secretOf([agent], contents, 'agent'))).body)).toEqual(CREDENTIAL)
    // The server's own certificate is for servers alone: nobody takes it for a client's.
    await expect(ask(server)).rejects.toThrow()
    expect((await probe(adminPort, '/metrics')).body).toContain('tls_rejected_total{reason="wrong-usage"} 1')
  })

  test('serves the Secrets that its Role names to the CCG plug-in, through the host files', async () => {
    await using api = await startApiServer()
    const [, adminPort] = await freePorts()
    const objects = render({ args: ['--set', `adminPort=${adminPort}`] })
    const role = only(objects, 'Role', 'provider')
    const names = listAt(role, 'rules', 0, 'resourceNames').map((name) => `${role.metadata.namespace}/${name}`)
    api.tokens.set('token', { user: 'system:serviceaccount:contoso-ad:test', mayGet: new Set(names) })
    api.secrets.set('contoso-ad/contoso-ccg-creds', { ...CREDENTIAL })
    const mounted = await mountRelease(objects, folder, { contents: issueCertificates(objects, folder), podIp: POD_IP })
    // In place of the files of the service account, whose folder is one for all programs of a machine.
    const kubeconfig = join(folder, 'kubeconfig')
    const authority = Buffer.from(api.ca).toString('base64')
    const cluster = { server: api.address, 'certificate-authority-data': authority }
    await writeFile(kubeconfig, kubeconfigText(cluster, { token: 'token' }), { mode: 0o600 })
    await using _ = await startMounted({ ...mounted, env: { ...mounted.env, KUBECONFIG: kubeconfig } })

    const host = join(folder, 'var/lib/rancher/gmsa/contoso-ad-contoso-ccg')
    const read = (path: string) => readFileSync(join(host, path))
    const [ca, pfx] = [read('ssl/ca/ca.crt'), read('ssl/client/tls.pfx')]
    const target = { host: '127.0.0.1', port: Number(read('port.txt')), path: '/provider', servername: 'localhost' }
    const ask = (object: string) => call({ ...target, ca, pfx, headers: { object }, agent: false })
    expect(JSON.parse((await ask('contoso-ccg-creds')).body)).toEqual(CREDENTIAL)
    expect((await ask('kube-root-ca')).status).toBe(404)
    expect((await probe(adminPort, '/readyz')).status).toBe(200)
  })
})

describe.skipIf(!OPENSSL)('the CA that Windows nodes are made to trust', () => {
  test.each([
    ['localhost', ''],
    ['dc1.contoso.com', 'permitted subtree violation'],
  ])('signs for localhost alone: %s', async (name, problem) => {
    const objects = render()
    const server = another(only(objects, 'Certificate', '-server'), 'stranger', { dnsNames: [name] })
    const contents = issueCertificates([...objects, server], folder)
    const { cert, ca } = secretOf([server], contents, 'stranger')
    await writeFile(join(folder, 'ca.pem'), ca)
    await writeFile(join(folder, 'leaf.pem'), cert)
    const { stderr } = spawnSync('openssl', ['verify', '-CAfile', join(folder, 'ca.pem'), join(folder, 'leaf.pem')])
    expect(String(stderr)).toContain(problem)
    expect(String(stderr) === '').toBe(problem === '')
  })
})
