import { rmSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ROOT } from '../test/fakes/cli.ts'
import { compile, install } from '../test/fakes/compiled.ts'
import { makePki, type PkiFiles, writePki } from '../test/fakes/pki.ts'
import type { Access } from './client.ts'
import { ACCOUNT, CREDENTIAL } from './credential.ts'
import { freePort, type Target } from './processes.ts'

export interface Bench {
  readonly access: Omit<Access, 'port'>
  readonly targets: readonly Target[]
  readonly logFile: string
}

/** Builds the product and the servers of comparison in a temporary folder that goes when the process ends. */
export async function prepare(): Promise<Bench> {
  const directory = await mkdtemp(join(tmpdir(), 'gmsa-bench-'))
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }))
  await build(directory)
  const pki = await makePki()
  const files = await writePki(join(directory, 'certs'), pki)
  const secrets = join(directory, 'secrets')
  await mkdir(secrets, { mode: 0o700 })
  await writeFile(join(secrets, `${ACCOUNT}.json`), JSON.stringify(CREDENTIAL), { mode: 0o600 })
  return {
    access: {
      ca: pki.ca.certificate,
      certificate: pki.client.certificate,
      key: pki.client.key,
      account: ACCOUNT,
      expected: JSON.stringify(CREDENTIAL),
    },
    targets: [compared('raw', directory, files), compared('lean', directory, files), product(directory, files)],
    logFile: join(directory, 'servers.log'),
  }
}

/** Compiled as the image has them: type stripping at start-up is no part of what is measured. */
async function build(directory: string): Promise<void> {
  await install(directory)
  const project = join(directory, 'tsconfig.json')
  await writeFile(
    project,
    JSON.stringify({
      extends: join(ROOT, 'tsconfig.json'),
      compilerOptions: { noEmit: false, rootDir: join(ROOT, 'bench'), outDir: join(directory, 'compared') },
      include: [join(ROOT, 'bench/servers')],
    }),
  )
  await compile(project)
}

function compared(name: string, directory: string, { server, ca }: PkiFiles): Target {
  const script = join(directory, 'compared', 'servers', `${name}.js`)
  return { name, arguments: async (port) => [script, String(port), server.certificate, server.key, ca] }
}

function product(directory: string, { server, ca }: PkiFiles): Target {
  return {
    name: 'product',
    async arguments(port) {
      const config = join(directory, 'config.yaml')
      await writeFile(config, configText(port, await freePort(), server, ca))
      return [join(directory, 'dist', 'cli', 'main.js'), 'run', '--config', config]
    },
  }
}

/** As an operator would write it, but for the rate limit: it is a safety net and would cut the load off. */
function configText(port: number, adminPort: number, server: PkiFiles['server'], clientCa: string): string {
  return `listen: { port: ${port} }
admin: { port: ${adminPort} }
tls:
  certificate: ${server.certificate}
  key: ${server.key}
  clientCa: ${clientCa}
providers:
  local: { type: file, directory: secrets }
accounts:
  ${ACCOUNT}: { provider: local }
clients:
  - { match: { uri: 'spiffe://localhost/client/*' }, allow: [credential], accounts: [${ACCOUNT}] }
limits: { requestsPerSecond: 1000000 }
`
}

/** What the reader of a table has to know of the machine. */
export async function machine(): Promise<string> {
  const load = (await readFile('/proc/loadavg', 'utf8').catch(() => '')).split(' ').slice(0, 3).join(' ')
  return load === '' ? '' : `load average ${load}`
}
