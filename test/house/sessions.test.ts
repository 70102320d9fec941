import { type ChildProcess, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { Secret } from '../../src/base/secret.ts'
import { makeCredentialSpec } from '../../src/gmsa/credential-spec.ts'
import { encodeKeytab } from '../../src/kerberos/keytab.ts'
import { CLI, startRun } from '../fakes/cli.ts'
import { needs } from '../lab/skip.ts'
import { blocksOf, commandsOf, type Step, stepsOf } from './markdown.ts'
import { files, text } from './source.ts'

/** Beside what the other test of the pages parses: what needs neither a domain nor another machine is run. */

const CURL = needs('curl')
const OPENSSL = needs('openssl')
const PROGRAM = 'gmsa-account-provider'

/** A folder in which to type what a page says, with the programs that it calls. */
let folder: string
let env: Record<string, string>
let port: number
let service: ChildProcess | undefined

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'gmsa-session-'))
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  const start = [process.execPath, ...CLI].join(' ')
  const programs = {
    [PROGRAM]: `exec ${start} "$@"`,
    npm: `[ "$1 $2 $3 $4" = 'run -s cli --' ] || exit 64; shift 4; exec ${start} "$@"`,
  }
  for (const [name, line] of Object.entries(programs)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${line}\n`)
    chmodSync(join(bin, name), 0o755)
  }
  const listener = createServer().listen(0, 'localhost')
  await once(listener, 'listening')
  port = Number(Reflect.get(Object(listener.address()), 'port'))
  listener.close()
  await once(listener, 'close')
  // Curl draws a bar where nobody sees it.
  writeFileSync(join(folder, '.curlrc'), 'silent\n')
  // Nothing of the machine's own: no other port than a free one is taken.
  const variables = { GMSA_PROVIDER_LISTEN__PORT: String(port), GMSA_PROVIDER_ADMIN__PORT: '0' }
  env = { PATH: [bin, process.env['PATH']].join(delimiter), HOME: folder, ...variables }
})
afterAll(() => {
  service?.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

/** Types a line into bash, and what follows it where the command reads it. */
function type(command: string, { input = '', more = {} }: { input?: string; more?: Record<string, string> } = {}) {
  const line = command.replaceAll('localhost:8443', `localhost:${port}`)
  const options = { cwd: folder, env: { ...env, ...more }, input, encoding: 'utf8', timeout: 30_000 } as const
  const { status, stdout, stderr } = spawnSync('bash', ['-c', line], options)
  return { status, stdout, stderr }
}

const block = (path: string, start: string) =>
  blocksOf(text(path)).find(({ text: each }) => each.startsWith(start))?.text ?? ''

async function step({ command, follows }: Step): Promise<void> {
  if (/ run &$/.test(command)) {
    const started = (child: ChildProcess) => {
      service = child
    }
    await startRun(['bash', '-c', `exec ${command.slice(0, -2)}`], { cwd: folder, env }, started)
    return
  }
  const reads = /\bcat > /.test(command)
  const { status, stdout, stderr } = type(command, reads ? { input: follows } : {})
  expect([command, status, stderr]).toEqual([command, 0, ''])
  if (!reads && follows !== '') expect(stdout.trim()).toBe(follows.trim())
}

describe.skipIf(!CURL)('what the README types', () => {
  test('works as it stands, from certificates to a credential, and prints what is shown', async () => {
    const steps = stepsOf(block('README.md', '$ npm run -s cli -- certs'))
    // The last would log on to a domain: tests with a real one do.
    const here = steps.filter(({ command }) => !command.includes(' doctor '))
    expect([steps.length, here.length]).toEqual([7, 6])
    for (const each of here) await step(each)
    const curl = type(block('certs/README.md', 'curl '))
    expect(JSON.parse(curl.stdout)).toEqual(JSON.parse(here.at(-1)?.follows ?? ''))
  })
})

describe('the configuration page', () => {
  const page = 'docs/configuration.md'
  const example = block(page, 'listen: ')
  const file = 'gmsa.yaml'
  const check = (config: string) => {
    writeFileSync(join(folder, file), config)
    return type(`${PROGRAM} check --json --config ${file}`)
  }
  const findings = (stdout: string): { subject: string; state: string; detail: string }[] => JSON.parse(stdout).findings

  beforeAll(() => {
    if (!existsSync(join(folder, 'certs'))) type(`${PROGRAM} certs certs`)
    mkdirSync(join(folder, 'secrets'), { recursive: true, mode: 0o700 })
    for (const name of ['contoso-ccg', 'ccg-eu-west']) {
      const record = { username: 'svc-ccg', password: 'pa55-Kanari', domainName: 'contoso.com' }
      writeFileSync(join(folder, 'secrets', `${name}.yaml`), JSON.stringify(record), { mode: 0o600 })
    }
  })

  test('shows an example whose every part check finds good', () => {
    const { status, stdout } = check(example.replace(/^ +crl: .*\n/m, ''))
    expect(findings(stdout).filter(({ state }) => state !== 'ok')).toEqual([])
    expect(findings(stdout).map(({ subject }) => subject)).toContain('ccg client')
    expect(status).toBe(0)
  })

  test.skipIf(!OPENSSL)(
    'has its revocation list made as certs/README.md says, and the revoked client is refused',
    () => {
      const { status, stderr } = type(`set -e\n${block('certs/README.md', 'cd certs/ca')}`)
      expect([status, stderr]).toEqual([0, expect.stringContaining('Adding Entry with serial number')])
      const states = findings(check(example).stdout).map(
        ({ subject, state, detail }) => `${state} ${subject} ${detail}`,
      )
      expect(states).toContainEqual(expect.stringMatching(/^ok tls /))
      expect(states).toContainEqual(expect.stringMatching(/^failed ccg client .*revoked by tls\.crl$/))
    },
  )

  test('shows problems as they are printed', () => {
    const { status, stderr } = check(example.replace('directory: secrets', 'directry: secrets').replace('30s', 'soon'))
    expect(stderr.replaceAll(`${folder}/`, '')).toBe(block(page, `${PROGRAM}: error`))
    expect(status).toBe(78)
  })

  test('shows variables that set what they name', () => {
    const lines = block(page, 'GMSA_PROVIDER_').trim().split('\n')
    writeFileSync(join(folder, file), example)
    const { status, stdout } = type(`${lines.join(' ')} ${PROGRAM} config print --config ${file}`)
    expect(status).toBe(0)
    expect(parse(stdout)).toMatchObject({
      listen: { port: 9443, hosts: ['0.0.0.0'] },
      providers: { local: { directory: '/run/secrets/gmsa' } },
    })
  })
})

/** Commands that need a domain, a service or an agent: tests with real ones run them. */
const ELSEWHERE = /^(?:run|doctor|credspec|keytab get|agent)\b/

describe('each command of ours that a page names', () => {
  const named = files('*.md', '{docs,deploy,charts,certs}/**/*.md')
    .flatMap((path) => commandsOf(text(path), [PROGRAM]))
    .map(({ words }) => words.slice(1).join(' '))
    .filter((words) => !ELSEWHERE.test(words))
  const domain = { sid: 'S-1-5-21-1-2-3', guid: '8665abd4-e947-4dd0-9a51-f8254943c90b', netBiosName: 'CONTOSO' }
  const dns = { dnsName: 'contoso.com', dnsTreeName: 'contoso.com' }
  const spec = JSON.stringify(makeCredentialSpec({ domain: { ...domain, ...dns }, samAccountName: 'web01$' }))

  /** What the names of a command stand for: files of the folder. */
  const here = (words: string) =>
    words
      .replace(/(?<=--credspec )\S+/, 'spec.json')
      .replace(/(?<=keytab list )\S+/, 'web01.keytab')
      .replace(/(?<=--node-ca )\S+/, 'certs/ca/ca.crt')
      .replace(/^cleanup --namespace \S+$/, '$& --directory host')
      .replaceAll(/(?<= )\/etc\/(?=\S)/g, 'etc/')

  beforeAll(() => {
    if (!existsSync(join(folder, 'certs'))) type(`${PROGRAM} certs certs`)
    mkdirSync(join(folder, 'etc', 'ecs'), { recursive: true })
    const gmsad = ['[web]', 'principal = HOST1$@CONTOSO.COM', 'keytab = /etc/krb5.keytab']
    const gmsa = ['gMSA_sAMAccountName = web01$', 'gMSA_domain = CONTOSO.COM', 'gMSA_keytab = /etc/web01.keytab']
    writeFileSync(join(folder, 'etc', 'gmsad.conf'), [...gmsad, ...gmsa, ''].join('\n'))
    writeFileSync(join(folder, 'etc', 'ecs', 'ecs.config'), 'CF_CRED_SPEC_FILE=spec.json:lease1\n')
    writeFileSync(join(folder, 'spec.json'), spec)
    const principal = { realm: 'CONTOSO.COM', components: ['HTTP', 'web01.contoso.com'], nameType: 1 }
    const key = new Secret(Buffer.alloc(32, 1))
    const entry = { principal, key, timestamp: 1_764_000_000, kvno: 3, enctype: 18 }
    writeFileSync(join(folder, 'web01.keytab'), encodeKeytab([entry]))
    const ccg = {
      directory: 'host',
      namespace: 'contoso-ad',
      client: { certificate: 'certs/client/tls.crt', key: 'certs/client/tls.key' },
    }
    const tls = { certificate: 'certs/server/tls.crt', key: 'certs/server/tls.key', clientCa: 'certs/ca/ca.crt' }
    const rest = {
      providers: { local: { type: 'file', directory: 'secrets' } },
      accounts: { 'contoso-ccg': { provider: 'local' } },
    }
    writeFileSync(join(folder, `${PROGRAM}.yaml`), JSON.stringify({ tls, ccg, ...rest }))
  })

  test.each([...new Set(named)])('%s: runs', (words) => {
    // One page's output is not in another's way.
    rmSync(join(folder, 'etc', PROGRAM), { recursive: true, force: true })
    const { status, stderr } = type(`${PROGRAM} ${here(words)}`)
    expect([status, stderr]).toEqual([0, ''])
  })
})
