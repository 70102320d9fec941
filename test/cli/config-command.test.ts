import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Ajv } from 'ajv'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { configCommand } from '../../src/cli/commands/config.ts'
import { expectLoaded, loadConfig } from '../../src/cli/config.ts'

let folder = ''
let file = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'config-'))
  file = join(folder, 'gmsa.yaml')
  writeFileSync(
    file,
    `tls: { certificate: tls.crt, key: tls.key, clientCa: ca.crt }
providers: { local: { type: file, directory: secrets }, spare: { type: file, directory: spare } }
accounts: { svc: { provider: local } }
`,
  )
})
afterAll(() => rmSync(folder, { recursive: true }))

async function run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<{ out: string; err: string }> {
  const written = { out: '', err: '' }
  const out = (text: string): void => {
    written.out += text
  }
  const err = (text: string): void => {
    written.err += text
  }
  await configCommand({ env, cwd: folder, out, err }).parseAsync(args, { from: 'user' })
  return written
}

describe('config print', () => {
  test('shows file, environment and defaults as one document that loads to the same', async () => {
    const { out, err } = await run(['print', '--config', file], { GMSA_PROVIDER_LISTEN__PORT: '1234' })
    expect(out).toContain(`# Effective configuration; from ${file}\n`)
    expect(parse(out)).toMatchObject({
      listen: { port: 1234 },
      tls: { certificate: join(folder, 'tls.crt') },
      cache: { maxAge: '30s', serveStale: '1h' },
      providers: { local: { type: 'file', directory: join(folder, 'secrets'), allowReadable: false } },
    })
    expect(err).toMatch(/^gmsa-account-provider: warning: .*providers\.spare: no account uses this provider\n$/)
    const again = join(folder, 'again.yaml')
    writeFileSync(again, out)
    const env = { GMSA_PROVIDER_LISTEN__PORT: '1234' }
    const first = expectLoaded(await loadConfig({ file, env, cwd: '/' }))
    expect(expectLoaded(await loadConfig({ file: again, env: {}, cwd: '/' })).config).toEqual(first.config)
  })

  test('rejects with all the problems', async () => {
    const env = { GMSA_PROVIDER_LISTEN__PORT: 'x', GMSA_PROVIDER_LOG__LEVEL: 'y' }
    await expect(run(['print', '--config', file], env)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/2 problems\n.*listen\.port.*\n.*log\.level/),
    })
  })
})

describe('config schema', () => {
  test('is a JSON Schema with a description of every option, closed on every level', async () => {
    const { out } = await run(['schema'])
    const bare: string[] = []
    const open: string[] = []
    const visit = (schema: unknown, path: string): void => {
      if (typeof schema !== 'object' || schema === null) return
      const { type, properties, additionalProperties = true } = schema as Record<string, unknown>
      for (const [name, option] of Object.entries(properties ?? {})) {
        if (typeof option.description !== 'string') bare.push(`${path}.${name}`)
      }
      if (type === 'object' && additionalProperties === true) open.push(path)
      // What a `not` describes is refused: nobody writes it. Conditions speak of options that are described elsewhere.
      for (const [key, part] of Object.entries(schema)) {
        if (!['not', 'allOf', 'if', 'else'].includes(key)) visit(part, `${path}/${key}`)
      }
    }
    visit(JSON.parse(out), '')
    expect(bare).toEqual([])
    expect(open).toEqual([])
  })

  test('meets the meta-schema of draft-07, and has no keyword that it does not know', async () => {
    const schema = JSON.parse((await run(['schema'])).out)
    expect(schema.$schema).toBe('http://json-schema.org/draft-07/schema#')
    const ajv = new Ajv({ strict: true, strictRequired: true, formats: { path: true } })
    expect(ajv.validateSchema(schema), JSON.stringify(ajv.errors)).toBe(true)
    ajv.compile(schema)
  })

  test('admits what `config print` shows, and nothing else', async () => {
    const ajv = new Ajv({ formats: { path: true } })
    const validate = ajv.compile(JSON.parse((await run(['schema'])).out))
    const effective = parse((await run(['print', '--config', file])).out)
    expect(validate(effective), JSON.stringify(validate.errors)).toBe(true)
    for (const other of [
      { log: { level: 'loud' } },
      { providers: {} },
      { providers: { local: { type: 'file' } } },
      { accounts: { 'a..b': { provider: 'local' } } },
      { accounts: { svc: {} } },
      { tls: undefined },
      { zzz: 1 },
    ]) {
      expect(validate(JSON.parse(JSON.stringify({ ...effective, ...other }))), JSON.stringify(other)).toBe(false)
    }
  })
})

describe('the generated documentation', () => {
  const script = resolve('scripts/generate.ts')
  const generate = (cwd: string, ...args: string[]) =>
    spawnSync(process.execPath, [script, ...args], { cwd, encoding: 'utf8' })

  test('is what the sources say', () => {
    const { status, stdout, stderr } = generate('.', '--check')
    expect(stdout + stderr).toBe('')
    expect(status).toBe(0)
  })

  test('is told from a changed one, and written anew', () => {
    cpSync('docs', join(folder, 'docs'), { recursive: true })
    cpSync('src/server/openapi.json', join(folder, 'src/server/openapi.json'))
    cpSync('charts', join(folder, 'charts'), { recursive: true })
    const page = join(folder, 'docs/configuration.md')
    const sound = readFileSync(page, 'utf8')
    writeFileSync(page, sound.replace('`8443`', '`8444`'))
    const check = generate(folder, '--check')
    expect(check).toMatchObject({ status: 1, stdout: 'docs/configuration.md differs: npm run generate\n' })
    expect(generate(folder).status).toBe(0)
    expect(readFileSync(page, 'utf8')).toBe(sound)
  })

  test('may not lack a section', () => {
    const page = join(folder, 'docs/errors.md')
    writeFileSync(page, '# Errors\n')
    expect(generate(folder, '--check')).toMatchObject({
      status: 1,
      stderr: 'docs/errors.md: blocks are missing: errors\n',
    })
  })
})
