import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeDevelopmentCertificates } from '../../src/cli/commands/certs.ts'
import { judgeNodeCa } from '../../src/cli/node-ca.ts'
import { generateKeys, issueCertificate, type PermittedNames } from '../../src/crypto/certificate.ts'
import { runCli } from '../fakes/cli.ts'
import { makePki, writePki } from '../fakes/pki.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gmsa-node-ca-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const from = new Date('2026-01-01T00:00:00Z')
const until = new Date('2027-01-01T00:00:00Z')
const now = new Date('2026-06-01T00:00:00Z').getTime()

async function certificate(ca: boolean, permittedNames?: PermittedNames): Promise<string> {
  const keys = await generateKeys('ec')
  const validity = { notBefore: from, notAfter: until }
  const subject = { commonName: 'nodes' }
  const issued = await issueCertificate({ subject, keys, ca, ...validity, ...(permittedNames && { permittedNames }) })
  return issued.certificate
}

async function judged(pem: string, at = now) {
  const file = join(folder, 'ca.crt')
  await writeFile(file, pem)
  const [finding] = await judgeNodeCa(file, at)
  return finding
}

const localhost = { dns: ['localhost'] }

describe('a CA that a Windows node is to trust', () => {
  test('is taken where it is held to names, and they are told', async () => {
    expect(await judged(await certificate(true, localhost))).toMatchObject({
      state: 'ok',
      detail: expect.stringContaining('can vouch for localhost, any IP address'),
    })
    const both = await certificate(true, { ...localhost, ip: ['127.0.0.0/8'] })
    expect((await judged(both))?.detail).toMatch(/can vouch for localhost$/)
  })

  test.each<[string, () => Promise<string>, RegExp]>([
    ['no name constraints', () => certificate(true), /has no name constraints: it could vouch for every server/],
    ['constraints of addresses alone', () => certificate(true, { ip: ['127.0.0.0/8'] }), /permit every DNS name/],
    ['no rights of a CA', () => certificate(false), /expected the certificate of a CA/],
    [
      'another one behind it',
      async () => (await certificate(true, localhost)) + (await certificate(true)),
      /expected one certificate and no other/,
    ],
    ['nothing in its file', async () => '', /holds no PEM certificate/],
  ])('is refused with %s', async (_, make, said) => {
    expect(await judged(await make())).toMatchObject({
      state: 'failed',
      code: 'CONFIG_INVALID',
      detail: expect.stringMatching(said),
    })
  })

  test('is refused before and after its time', async () => {
    const pem = await certificate(true, localhost)
    for (const at of [from.getTime() - 1, until.getTime() + 2000]) {
      expect((await judged(pem, at))?.detail).toMatch(/and so not now/)
    }
  })

  test('may be the one that certs makes: check --node-ca says so, and fails for another', async () => {
    await makeDevelopmentCertificates(join(folder, 'certs'))
    const good = await runCli(['check', '--node-ca', join(folder, 'certs/ca/ca.crt')])
    expect([good.code, good.stderr]).toEqual([0, ''])
    expect(good.stdout).toMatch(/^ok +node CA .*: can vouch for localhost, any IP address\n$/)
    const file = join(folder, 'other.crt')
    await writeFile(file, (await makePki()).ca.certificate)
    const bad = await runCli(['check', '--node-ca', file])
    expect(bad.code).toBe(1)
    expect(bad.stdout).toMatch(/^failed +node CA .*has no name constraints.*\n +hint: issue it with critical/)
  })
})

describe('check, of a configuration with host files,', () => {
  test('warns of a CA that could vouch for every server on the nodes, and of no other', async () => {
    const run = async (ccg: object | undefined) => {
      const secrets = join(folder, 'secrets')
      const tls = { certificate: 'server/tls.crt', key: 'server/tls.key', clientCa: 'ca/ca.crt' }
      const config = {
        tls,
        providers: { local: { type: 'file', directory: secrets } },
        accounts: { ccg: { provider: 'local' } },
        ...(ccg && { ccg }),
      }
      await writeFile(join(folder, 'config.yaml'), JSON.stringify(config))
      const { stdout } = await runCli(['check', '--json', '--config', join(folder, 'config.yaml')])
      const { findings } = JSON.parse(stdout) as { findings: { subject: string; state: string; detail: string }[] }
      return findings.find(({ subject }) => subject === 'node CA')
    }
    const ccg = { directory: join(folder, 'host'), namespace: 'contoso-ad' }
    const client = { certificate: 'client/tls.crt', key: 'client/tls.key' }
    await writePki(folder, await makePki())
    expect(await run({ ...ccg, client })).toMatchObject({
      state: 'warning',
      detail: expect.stringContaining('takes its word for every server: CN=Test CA'),
    })
    expect(await run(undefined)).toBeUndefined()
    await writeFile(join(folder, 'ca/ca.crt'), await readFile(join(folder, 'certs/ca/ca.crt')))
    expect(await run({ ...ccg, client })).toBeUndefined()
  })
})
