import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CLI, runCli } from '../fakes/cli.ts'
import { makePki, writePki } from '../fakes/pki.ts'

/** Lets no optional package be found, as if `npm ci --omit=optional` had made the installation. */
const HOOK = `
import { registerHooks } from 'node:module'
registerHooks({
  resolve(specifier, context, next) {
    if (!/^@(?:azure|aws-sdk|smithy)\\//.test(specifier)) return next(specifier, context)
    throw Object.assign(new Error('Cannot find package ' + specifier), { code: 'ERR_MODULE_NOT_FOUND' })
  },
})`

let directory: string
let env: Record<string, string>
let config: Record<string, unknown>

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'gmsa-slim-'))
  const { server, ca } = await writePki(directory, await makePki())
  await writeFile(join(directory, 'svc-ccg.json'), '{"username":"u","password":"p","domainName":"d"}', { mode: 0o600 })
  await writeFile(join(directory, 'hook.mjs'), HOOK)
  env = { NODE_OPTIONS: `--import=${pathToFileURL(join(directory, 'hook.mjs'))}` }
  config = {
    listen: { port: 0 },
    admin: { port: 0 },
    tls: { ...server, clientCa: ca },
    providers: { local: { type: 'file', directory } },
    accounts: { 'svc-ccg': { provider: 'local' } },
    shutdown: { drainDelay: '0s' },
  }
})
afterAll(() => rm(directory, { recursive: true, force: true }))

async function write(providers: object, provider: string): Promise<string> {
  const file = join(directory, `${provider}.json`)
  await writeFile(file, JSON.stringify({ ...config, providers, accounts: { 'svc-ccg': { provider } } }))
  return file
}

describe('an installation without optional packages', () => {
  test('starts, and serves the stores that need none', async () => {
    const file = await write({ local: { type: 'file', directory } }, 'local')
    const child = spawn(process.execPath, [...CLI, 'run', '--config', file], {
      env: { PATH: process.env['PATH'] ?? '', ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const ended = once(child, 'exit')
    for await (const line of createInterface({ input: child.stdout })) {
      if (JSON.parse(line).msg === 'listening') child.kill('SIGTERM')
    }
    expect(await ended).toEqual([0, null])
  })

  test.each([
    [{ type: 'aws-secrets-manager', region: 'eu-west-1' }, '@aws-sdk/client-secrets-manager'],
    [{ type: 'azure-key-vault', vault: 'contoso' }, '@azure/identity @azure/keyvault-secrets'],
  ])('says which to add for %j', async (store, packages) => {
    const file = await write({ store }, 'store')
    const { code, stderr } = await runCli(['run', '--config', file], { env })
    expect(code).toBe(78)
    expect(stderr).toContain(`error: providers.store: this installation is without ${packages}`)
    expect(stderr).toContain(`hint: add it with npm install ${packages}`)
    const checked = await runCli(['check', '--config', file], { env })
    expect(checked.code).not.toBe(0)
    expect(checked.stdout + checked.stderr).toContain(`without ${packages}`)
  })
})
