import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { systemClock } from '../../../src/base/clock.ts'
import { silentLog } from '../../../src/base/log.ts'
import { Secret } from '../../../src/base/secret.ts'
import { encodeKeytab } from '../../../src/kerberos/keytab.ts'
import { parsePrincipal } from '../../../src/kerberos/principal.ts'
import { awsSecretsManager } from '../../../src/providers/aws-secrets-manager/index.ts'
import type { Account, Provider } from '../../../src/providers/provider.ts'
import { printed } from '../../contract/printed.ts'
import { failure, rejection } from '../../contract/provider-contract.ts'
import { startStandIn } from '../../fakes/stand-in.ts'
import { type AwsFixture, awsFixture, REGION, stubAwsEnvironment } from './stand-in.ts'

const context = { log: silentLog, clock: systemClock }
const GOOD = { username: 'svc', password: 'pa55-Kanari', domainName: 'ad.test' }
const json = (password: string) => ({ text: JSON.stringify({ ...GOOD, password }) })

let fixture: AwsFixture
let provider: Provider

beforeEach(async () => {
  fixture = await awsFixture()
  provider = await fixture.open(context)
})
afterEach(async () => {
  await provider[Symbol.asyncDispose]()
  await fixture[Symbol.asyncDispose]()
})

const account = (secret: string, options: Account['options'] = {}): Account => ({ name: 'web01', secret, options })
const signal = () => AbortSignal.timeout(5_000)

async function passwordOf(secret: string, options?: Account['options'], which: 'reads' | 'previous' = 'reads') {
  const read = which === 'reads' ? provider.reads.credential : provider.readPrevious
  const credential = await read?.(account(secret, options), signal())
  return credential?.password.revealText()
}

/** Opens another provider in place of the fixture's. */
async function reopen(options: Readonly<Record<string, unknown>>): Promise<void> {
  await provider[Symbol.asyncDispose]()
  provider = await awsSecretsManager.open('asm', options, context)
}

describe('a secret', () => {
  test('is asked for by its name or its ARN, as the version that is current', async () => {
    const { manager } = fixture
    manager.put('prod/gmsa@eu', json('one'))
    expect(await passwordOf('prod/gmsa@eu')).toBe('one')
    expect(await passwordOf(manager.arn('prod/gmsa@eu'))).toBe('one')
    const asked = { action: 'GetSecretValue', input: { SecretId: 'prod/gmsa@eu', VersionStage: 'AWSCURRENT' } }
    expect(manager.calls[0]).toEqual(asked)
  })

  test.each([
    ['a name no secret can have', 'two words', 'neither the name nor the ARN'],
    ['an ARN of something else', 'arn:aws:s3:::bucket', 'neither the name nor the ARN'],
    [
      'an ARN of another region',
      'arn:aws:secretsmanager:us-east-1:123456789012:secret:x-AbCdEf',
      'is in region us-east-1',
    ],
  ])('under %s is not asked for', async (_, secret, problem) => {
    expect((await failure(passwordOf(secret), 'ACCOUNT_NOT_FOUND')).message).toContain(problem)
    expect(fixture.manager.calls).toEqual([])
  })

  test('that is scheduled for deletion is as good as absent, with what to do', async () => {
    fixture.manager.put('one', json('one'))
    fixture.manager.scheduleDeletion('one')
    const error = await failure(passwordOf('one'), 'ACCOUNT_NOT_FOUND')
    expect(error.message).toContain('scheduled for deletion')
    expect(error.hint).toContain('restore-secret')
  })

  test('may be text of the domain\\user:password kind, or bytes of a text', async () => {
    fixture.manager.put('text', { text: 'CONTOSO\\svc:a:b' })
    fixture.manager.put('bytes', { bytes: Buffer.from('CONTOSO\\svc:€') })
    expect(await passwordOf('text')).toBe('a:b')
    expect(await passwordOf('bytes')).toBe('€')
  })

  test('may be the bytes of a keytab', async () => {
    const entry = { principal: parsePrincipal('web01$@AD.TEST'), timestamp: 5, kvno: 2, enctype: 18 }
    fixture.manager.put('keytab', { bytes: encodeKeytab([{ ...entry, key: new Secret(new Uint8Array(32).fill(7)) }]) })
    const keys = await provider.reads['kerberos-keys']?.(account('keytab'), signal())
    expect(keys?.keys.map(({ kvno }) => kvno)).toEqual([2])
  })

  test('without a value is malformed', async () => {
    fixture.manager.server.fail({ status: 200, body: { Name: 'one' } })
    expect((await failure(passwordOf('one'), 'MATERIAL_MALFORMED')).message).toContain('has no value')
  })
})

describe('versions', () => {
  test('one that is being rotated in is not read, under its label or beside the current one', async () => {
    const { manager } = fixture
    manager.put('one', json('current'))
    const pending = manager.putLabelled('one', json('pending'), 'AWSPENDING')
    expect(await passwordOf('one')).toBe('current')
    const error = await failure(passwordOf('one', { version: pending }), 'MATERIAL_MALFORMED')
    expect(error.message).toContain('AWSPENDING')
  })

  test('one that still bears both labels is current', async () => {
    fixture.manager.putLabelled('one', json('current'), 'AWSPENDING', 'AWSCURRENT')
    expect(await passwordOf('one')).toBe('current')
  })

  test('P4: the one before is to be had, and is absent where there is none', async () => {
    fixture.manager.put('one', json('first'))
    await failure(passwordOf('one', {}, 'previous'), 'ACCOUNT_NOT_FOUND')
    fixture.manager.put('one', json('second'))
    expect(await passwordOf('one', {}, 'previous')).toBe('first')
    expect(await passwordOf('one')).toBe('second')
  })

  test('a pinned one stays, and has none before it', async () => {
    const version = fixture.manager.put('one', json('first'))
    fixture.manager.put('one', json('second'))
    expect(await passwordOf('one', { version })).toBe('first')
    expect(await passwordOf('one', { version: null })).toBe('second')
    const asked = fixture.manager.calls.length
    await failure(passwordOf('one', { version }, 'previous'), 'ACCOUNT_NOT_FOUND')
    expect(fixture.manager.calls).toHaveLength(asked)
    await failure(passwordOf('one', { version: '0'.repeat(32) }), 'ACCOUNT_NOT_FOUND')
  })
})

describe('a refusal', () => {
  test('names who may not do what, and nothing else of what the service says', async () => {
    fixture.manager.put('one', json('one'))
    fixture.manager.permitted = false
    const error = await failure(passwordOf('one'), 'STORE_DENIED')
    expect(error.reason).toBe('not-permitted')
    expect(error.message).toBe(
      'AWS Secrets Manager does not let us read: secret of account web01; arn:aws:sts::123456789012:assumed-role/gmsa/task may not secretsmanager:GetSecretValue',
    )
    expect(printed(error)).not.toContain('Kanari')
  })

  test('of the right to read does not fail the probe, which shows that the store knows us', async () => {
    fixture.manager.permitted = false
    await provider.probe(signal())
    expect(fixture.manager.calls.map(({ action }) => action)).toEqual(['GetRandomPassword'])
  })

  test('of our credentials does', async () => {
    fixture.manager.server.fail({ status: 400, body: { __type: 'UnrecognizedClientException' } })
    expect((await failure(provider.probe(signal()), 'STORE_DENIED')).reason).toBe('bad-password')
  })

  test('of our time is overcome by taking that of the service', async () => {
    fixture.manager.put('one', json('one'))
    for (const ahead of [10 * 60_000, -10 * 60_000, 0]) {
      fixture.manager.ahead = ahead
      expect(await passwordOf('one')).toBe('one')
    }
  })

  test('of our time that stays one says so', async () => {
    fixture.manager.server.fail({ status: 400, body: { __type: 'RequestExpired' } })
    const error = await failure(passwordOf('one'), 'STORE_UNAVAILABLE')
    expect(error).toMatchObject({ reason: 'clock', hint: expect.stringContaining('clock of this machine') })
    expect(fixture.manager.server.seen).toHaveLength(2)
  })
})

describe('an error of the service', () => {
  test('is not retried in here: that is the affair of the broker', async () => {
    for (const status of [500, 503]) {
      const before = fixture.manager.server.seen.length
      fixture.manager.server.fail({ status, body: '<html>pa55</html>' })
      const error = await failure(passwordOf('one'), 'STORE_UNAVAILABLE')
      expect(error.message).toContain('fault of its own')
      expect(printed(error)).not.toContain('pa55')
      expect(fixture.manager.server.seen).toHaveLength(before + 1)
    }
  })

  test('with a type of its own invention is one of the protocol, and shown only where it is a word', async () => {
    fixture.manager.server.fail({ status: 400, body: { __type: 'pa55 Kanari', message: 'pa55' } })
    const error = await failure(passwordOf('one'), 'STORE_UNAVAILABLE')
    expect(error.reason).toBe('protocol')
    expect(printed(error)).not.toContain('pa55')
  })

  test('that stops in the middle of an answer ends with the signal, and so does the connection', async () => {
    const closed = Promise.withResolvers<void>()
    const server = createServer((request, response) => {
      request.socket.on('close', () => closed.resolve())
      response.writeHead(200, { 'content-length': '100' }).write('{"SecretString":"pa55')
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    await reopen({ region: REGION, endpoint: `http://127.0.0.1:${port}` })
    const reason = new Error('gave up')
    const controller = new AbortController()
    const reading = rejection(provider.reads.credential?.(account('one'), controller.signal) ?? Promise.resolve())
    setTimeout(() => controller.abort(reason), 200)
    expect(await reading).toBe(reason)
    await closed.promise
    server.close()
  })
})

describe('credentials', () => {
  beforeEach(() => fixture.manager.put('one', json('one')))

  test('are fetched once for many reads, and anew when they are no longer taken', async () => {
    const { manager } = fixture
    await Promise.all(Array.from({ length: 20 }, () => passwordOf('one')))
    expect(manager.issued).toBe(1)
    manager.expireCredentials()
    expect(await Promise.all(Array.from({ length: 20 }, () => passwordOf('one')))).toEqual(Array(20).fill('one'))
    expect(manager.issued).toBe(2)
  })

  test('that stay refused are not fetched again and again', async () => {
    const { manager } = fixture
    manager.server.fail({ status: 400, body: { __type: 'ExpiredTokenException' } })
    for (let count = 0; count < 20; count++) {
      expect((await failure(passwordOf('one'), 'STORE_DENIED')).reason).toBe('expired')
    }
    expect(manager.issued).toBe(2)
    expect(manager.server.seen).toHaveLength(21)
  })

  test('that are nowhere to be found: it says where was looked', async () => {
    fixture.manager.withholdCredentials()
    const error = await failure(passwordOf('one'), 'STORE_DENIED')
    expect(error).toMatchObject({ reason: 'not-found', hint: expect.stringContaining('web identity') })
    expect(fixture.manager.calls).toEqual([])
  })

  test('of a file are read again when the file has changed', async () => {
    const { manager, options, folder } = fixture
    const file = join(folder, 'credentials')
    const write = () => {
      const { id, secret, token } = manager.credentials
      const lines = ['[default]', `aws_access_key_id=${id}`, `aws_secret_access_key=${secret}`]
      return writeFile(file, [...lines, `aws_session_token=${token}`].join('\n'))
    }
    await write()
    stubAwsEnvironment({ AWS_SHARED_CREDENTIALS_FILE: file })
    await reopen(options)
    expect(await passwordOf('one')).toBe('one')
    manager.revokeCredentials()
    await write()
    expect(await passwordOf('one')).toBe('one')
    expect(manager.issued).toBe(0)
  })
})

describe('a web identity, as EKS gives it to a pod', () => {
  test('is exchanged for credentials; its token is read again when they are no longer taken', async () => {
    const { manager, options, folder } = fixture
    manager.put('one', json('one'))
    const shown: string[] = []
    const tokens = await startStandIn(
      ({ body }) => {
        shown.push(new URLSearchParams(body).get('WebIdentityToken') ?? '')
        const { id, secret, token } = manager.credentials
        const end = new Date(Date.now() + 3_600_000).toISOString()
        const given = `<AccessKeyId>${id}</AccessKeyId><SecretAccessKey>${secret}</SecretAccessKey><SessionToken>${token}</SessionToken><Expiration>${end}</Expiration>`
        const result = `<AssumeRoleWithWebIdentityResult><Credentials>${given}</Credentials></AssumeRoleWithWebIdentityResult>`
        const text = `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">${result}</AssumeRoleWithWebIdentityResponse>`
        return { status: 200, headers: { 'content-type': 'text/xml' }, body: text }
      },
      { tls: false },
    )
    const file = join(folder, 'token')
    await writeFile(file, 'first')
    stubAwsEnvironment({
      AWS_ROLE_ARN: 'arn:aws:iam::123456789012:role/gmsa',
      AWS_WEB_IDENTITY_TOKEN_FILE: file,
      AWS_ENDPOINT_URL_STS: tokens.address,
    })
    await reopen(options)
    expect(await passwordOf('one')).toBe('one')
    await writeFile(file, 'second')
    manager.expireCredentials()
    expect(await passwordOf('one')).toBe('one')
    expect(shown).toEqual(['first', 'second'])
    const denied = '<ErrorResponse><Error><Code>AccessDenied</Code><Message>pa55</Message></Error></ErrorResponse>'
    tokens.fail({ status: 403, headers: { 'content-type': 'text/xml' }, body: denied })
    await reopen(options)
    const error = await failure(passwordOf('one'), 'STORE_DENIED')
    expect(error).toMatchObject({ reason: 'not-permitted', hint: expect.stringContaining('trust policy') })
    // Unlike one of the right to read: here nobody knows us.
    await failure(provider.probe(signal()), 'STORE_DENIED')
    await tokens[Symbol.asyncDispose]()
  })
})

describe('options', () => {
  test('may be left to the environment', async () => {
    const { manager } = fixture
    manager.put('one', json('one'))
    vi.stubEnv('AWS_REGION', REGION)
    vi.stubEnv('AWS_ENDPOINT_URL_SECRETS_MANAGER', manager.server.address)
    await reopen({ ca: fixture.options.ca })
    expect(await passwordOf('one')).toBe('one')
  })

  test('without a region anywhere are refused when the store is opened', async () => {
    const error = await failure(awsSecretsManager.open('asm', {}, context), 'CONFIG_INVALID')
    expect(error.message).toContain('providers.asm.region')
  })

  test.each(['http://example.com', 'ftp://localhost', 'https://user@localhost', 'localhost:4566'])(
    'with the endpoint %s are refused',
    async (endpoint) => {
      await failure(awsSecretsManager.open('asm', { region: REGION, endpoint }, context), 'CONFIG_INVALID')
    },
  )

  test('with a CA file that is gone: the store can not be asked until it is back', async () => {
    const empty = mkdtempSync(join(tmpdir(), 'gmsa-none-'))
    const ca = join(empty, 'ca.crt')
    fixture.manager.put('one', json('one'))
    await reopen({ ...fixture.options, ca })
    expect((await failure(passwordOf('one'), 'STORE_UNAVAILABLE')).reason).toBe('unknown-ca')
    await writeFile(ca, fixture.manager.server.ca)
    expect(await passwordOf('one')).toBe('one')
    rmSync(empty, { recursive: true })
  })
})
