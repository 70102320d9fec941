import { type ChildProcess, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { CLI, type RunningService, runCli, startRun } from '../fakes/cli.ts'
import { makePki, type Pki, writePki } from '../fakes/pki.ts'
import { type CallOptions, call } from '../fakes/rig.ts'
import { type ApiServer, kubeconfigText, startApiServer } from '../providers/kubernetes/stand-in.ts'

const NAMESPACE = 'cattle-windows-gmsa-system'
const GOOD = { username: 'username', password: 'password', domainName: 'ad.domain' }
const ANSWER = '{"username":"username","password":"password","domainName":"ad.domain"}'
const TOKEN = 'eyJhbGciOiJSUzI1NiJ9.rancher'

/** What stands for `/var/lib/rancher/gmsa` on the node. */
let host: string
let base: string
let api: ApiServer
let pki: Pki
const children: ChildProcess[] = []

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'gmsa-rancher-'))
  host = join(base, 'gmsa')
  pki = await makePki()
  await mkdir(join(host, NAMESPACE, 'container'), { recursive: true, mode: 0o700 })
  await writePki(join(host, NAMESPACE, 'container', 'ssl'), pki)
  api = await startApiServer()
  // The Role of Rancher's chart: every Secret of the namespace.
  const mayGet = { has: (key: string) => key.startsWith(`${NAMESPACE}/`) }
  api.tokens.set(TOKEN, { user: `system:serviceaccount:${NAMESPACE}:rancher-gmsa-account-provider`, mayGet })
  put('test-secret', GOOD)
})
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  await api[Symbol.asyncDispose]()
  await rm(base, { recursive: true, force: true })
})

function put(name: string, data: Readonly<Record<string, string>>, namespace = NAMESPACE): void {
  api.secrets.set(`${namespace}/${name}`, data)
}

/** As the plug-in asks. */
function provider({ port }: RunningService, object: string | undefined, more: CallOptions = {}) {
  return call({
    host: '127.0.0.1',
    port,
    path: '/provider',
    headers: object === undefined ? {} : { object },
    servername: 'localhost',
    ca: pki.ca.certificate,
    cert: pki.client.certificate,
    key: pki.client.key,
    agent: false,
    ...more,
  })
}

const started = (child: ChildProcess) => void children.push(child)
const hostFile = (...path: string[]) => join(host, NAMESPACE, ...path)

/** A mount namespace is the one way to the paths that are fixed in Rancher's manifests without touching this machine's. */
const canMount = process.getuid?.() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0
const POD = `
mount -t tmpfs none /var/lib && mkdir -p /var/lib/rancher/gmsa && mount --bind "$1" /var/lib/rancher/gmsa
mount -t tmpfs none /run && mkdir -p /var/run/secrets/kubernetes.io/serviceaccount
cp "$2"/* /var/run/secrets/kubernetes.io/serviceaccount
chmod 644 /var/run/secrets/kubernetes.io/serviceaccount/*
shift 2
exec "$@"`

describe("with the environment and the mounts of Rancher's DaemonSet, and nothing else,", () => {
  const testInPod = (name: string, body: () => Promise<void>) =>
    test(name, async ({ skip }) => {
      skip(!canMount, 'needs root and unshare(1)')
      await body()
    })
  const serviceAccount = () => join(base, 'serviceaccount')
  const inPod = (...args: string[]) => {
    const folders = [host, serviceAccount()]
    return ['unshare', '-m', 'sh', '-ec', POD, 'sh', ...folders, process.execPath, ...args]
  }

  async function start(): Promise<RunningService> {
    await mkdir(serviceAccount())
    await writeFile(join(serviceAccount(), 'token'), TOKEN)
    await writeFile(join(serviceAccount(), 'ca.crt'), api.ca)
    const env = {
      PATH: process.env['PATH'],
      NAMESPACE,
      KUBERNETES_SERVICE_HOST: '127.0.0.1',
      KUBERNETES_SERVICE_PORT: String(api.port),
    }
    return startRun(inPod(...CLI, 'run'), { cwd: base, env }, started)
  }

  testInPod('run answers as Rancher does (H1 to H11), and says that every name is served', async () => {
    const running = await start()
    const { status, headers, body } = await provider(running, 'test-secret')
    expect({ status, body, type: headers['content-type'] }).toEqual({
      status: 200,
      body: ANSWER,
      type: 'application/json; charset=utf-8',
    })
    for (const missing of Object.keys(GOOD)) {
      put(`no-${missing.toLowerCase()}`, Object.fromEntries(Object.entries(GOOD).filter(([key]) => key !== missing)))
    }
    put('empty', {})
    put('elsewhere', GOOD, 'other')
    for (const object of ['no-username', 'no-password', 'no-domainname', 'empty', 'elsewhere', 'absent']) {
      expect(await provider(running, object), object).toMatchObject({ status: 404, body: '' })
    }
    const others: [string | undefined, CallOptions, number][] = [
      ['test-secret', { method: 'POST' }, 404],
      ['test-secret', { path: '/invalid' }, 404],
      [undefined, { headers: { object2: 'test-secret' } }, 400],
      [undefined, {}, 400],
    ]
    for (const [object, more, expected] of others) {
      const headersOf = object === undefined ? more : { ...more, headers: { object } }
      expect(await provider(running, object, headersOf)).toMatchObject({ status: expected, body: '' })
    }
    await expect(provider(running, 'test-secret', { cert: '', key: '' })).rejects.toThrow()
    const warnings = running.lines.filter(({ level }) => level === 'warn').map(({ msg }) => String(msg))
    expect(
      warnings.some((each) => each.includes(`may read the credential in any Secret of namespace ${NAMESPACE}`)),
    ).toBe(true)
    expect(JSON.stringify(running.lines)).not.toMatch(new RegExp(`"password"|${TOKEN}`))
  })

  testInPod(
    'run writes the host files (L4) without the private key, takes port.txt away, and cleanup the rest',
    async () => {
      const running = await start()
      expect(await readFile(hostFile('port.txt'), 'utf8')).toBe(String(running.port))
      const files = await readdir(hostFile('ssl'), { recursive: true })
      expect(files.filter((each) => each.includes('.')).sort()).toEqual([
        'ca/ca.crt',
        'ca/tls.crt',
        'client/ca.crt',
        'client/tls.crt',
        'client/tls.pfx',
        'server/ca.crt',
        'server/tls.crt',
      ])
      running.child.kill('SIGTERM')
      expect(await running.exited).toEqual([0, null])
      expect(existsSync(hostFile('port.txt'))).toBe(false)
      const [command = '', ...args] = inPod(...CLI, 'cleanup')
      const env = { PATH: process.env['PATH'], NAMESPACE }
      expect(spawnSync(command, args, { cwd: base, env, timeout: 30_000 }).status).toBe(0)
      // What Kubernetes mounts there is not ours to remove.
      expect(await readdir(hostFile())).toEqual(['container'])
    },
  )
})

describe('with a kubeconfig, and the fixed paths led elsewhere by the environment,', () => {
  async function environment(more: NodeJS.ProcessEnv = {}): Promise<Record<string, string>> {
    const kubeconfig = join(base, 'kubeconfig')
    const ca = Buffer.from(api.ca).toString('base64')
    const text = kubeconfigText({ server: api.address, 'certificate-authority-data': ca }, { token: TOKEN })
    await writeFile(kubeconfig, text, { mode: 0o600 })
    const ssl = (...path: string[]) => hostFile('container', 'ssl', ...path)
    return {
      PATH: process.env['PATH'] ?? '',
      NAMESPACE,
      KUBECONFIG: kubeconfig,
      GMSA_PROVIDER_TLS__CERTIFICATE: ssl('server', 'tls.crt'),
      GMSA_PROVIDER_TLS__KEY: ssl('server', 'tls.key'),
      GMSA_PROVIDER_TLS__CLIENTCA: ssl('ca', 'ca.crt'),
      GMSA_PROVIDER_CCG__DIRECTORY: host,
      GMSA_PROVIDER_CCG__CLIENT__CERTIFICATE: ssl('client', 'tls.crt'),
      GMSA_PROVIDER_CCG__CLIENT__KEY: ssl('client', 'tls.key'),
      GMSA_PROVIDER_CACHE__MAXAGE: '0s',
      ...more,
    }
  }

  const adminOf = ({ lines }: RunningService) => {
    const line = JSON.stringify(lines.find(({ msg }) => msg === 'listening')?.['admin'])
    return Number(/"port":(\d+)/.exec(line)?.[1])
  }
  const start = async (args: readonly string[] = [], more: NodeJS.ProcessEnv = {}) =>
    startRun([process.execPath, ...CLI, 'run', ...args], { cwd: base, env: await environment(more) }, started)

  test('a rotated Secret is what the next call gives, a deleted one is absent, and an outage is bridged', async () => {
    const running = await start()
    expect((await provider(running, 'test-secret')).body).toBe(ANSWER)
    put('test-secret', { ...GOOD, password: 'rotated' })
    expect(JSON.parse((await provider(running, 'test-secret')).body)).toEqual({ ...GOOD, password: 'rotated' })
    await api.stop()
    const stale = await provider(running, 'test-secret')
    expect(JSON.parse(stale.body)).toEqual({ ...GOOD, password: 'rotated' })
    expect(stale.headers['gmsa-stale']).toMatch(/^\d+$/)
    await api.start()
    await expect.poll(async () => (await provider(running, 'test-secret')).headers['gmsa-stale']).toBeUndefined()
    api.secrets.delete(`${NAMESPACE}/test-secret`)
    expect(await provider(running, 'test-secret')).toMatchObject({
      status: 404,
      body: '',
      headers: { 'gmsa-error': 'ACCOUNT_NOT_FOUND' },
    })
    await api.stop()
    // Nothing older comes back once the store has said that there is nothing.
    expect((await provider(running, 'test-secret')).status).not.toBe(200)
  })

  test('--secret-names serves these and asks for no other', async () => {
    put('other', GOOD)
    const running = await start(['--secret-names', 'test-secret'])
    expect((await provider(running, 'test-secret')).status).toBe(200)
    expect(await provider(running, 'other')).toMatchObject({ status: 404, body: '' })
    expect(api.seen.filter(({ path }) => path.endsWith('/other'))).toEqual([])
    expect(JSON.stringify(running.lines)).not.toContain('any Secret of namespace')
  })

  test('two releases on one node get along: the second finds another admin port', async () => {
    const first = await start([], { GMSA_PROVIDER_ADMIN__PORT: '0' })
    const taken = adminOf(first)
    const second = await start(['--namespace', 'second'], { GMSA_PROVIDER_ADMIN__PORT: String(taken) })
    expect(adminOf(second)).not.toBe(taken)
    expect((await provider(second, 'absent')).status).toBe(502)
  })

  test('--disable-mtls leaves port.txt alone of the host files, and is named in /readyz (L1)', async () => {
    const { NAMESPACE: namespace, KUBECONFIG } = await environment()
    const env = { PATH: process.env['PATH'], NAMESPACE: namespace, KUBECONFIG }
    const more = { GMSA_PROVIDER_CCG__DIRECTORY: host, GMSA_PROVIDER_ADMIN__PORT: '0', DISABLE_MTLS: 'true' }
    const args = [process.execPath, ...CLI, 'run', '--disable-mtls']
    const running = await startRun(args, { cwd: base, env: { ...env, ...more } }, started)
    const { port } = running
    const plain = { host: '127.0.0.1', port, path: '/provider', headers: { object: 'test-secret' }, agent: false }
    expect((await call(plain, httpRequest)).body).toBe(ANSWER)
    expect((await readdir(hostFile())).sort()).toEqual(['container', 'port.txt'])
    const readyz = { host: '127.0.0.1', port: adminOf(running), path: '/readyz?verbose', agent: false }
    expect((await call(readyz, httpRequest)).body).toMatch(/mtls.*(?:off|disabled)/i)
  })

  test('certificates that are missing are an error that names them, and nothing is written (L5)', async () => {
    await rm(hostFile('container', 'ssl', 'server', 'tls.key'))
    const { code, stderr } = await runCli(['run'], { cwd: base, env: await environment() })
    expect(code).toBe(78)
    expect(stderr).toContain(hostFile('container', 'ssl', 'server', 'tls.key'))
    expect(await readdir(hostFile())).toEqual(['container'])
  })

  test('check tries it all: what is wrong is named with the right that is missing', async () => {
    const env = await environment()
    const good = await runCli(['check'], { cwd: base, env })
    expect(good.stdout).toMatch(/^ok +provider cluster +kubernetes: answers/m)
    expect(good.code).toBe(0)
    api.tokens.clear()
    const bad = await runCli(['check'], { cwd: base, env })
    expect(bad.code).toBe(1)
    expect(bad.stdout).toContain('does not know who we are')
    expect(bad.stdout + bad.stderr).not.toContain(TOKEN)
  })
})
