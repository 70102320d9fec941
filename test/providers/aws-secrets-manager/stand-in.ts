import { createHash, createHmac, randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { vi } from 'vitest'
import { awsSecretsManager } from '../../../src/providers/aws-secrets-manager/index.ts'
import type { OutageFixture } from '../../contract/outages.ts'
import { RETRY_AFTER } from '../../contract/outages.ts'
import { type Reply, type SeenRequest, type StandIn, startStandIn } from '../../fakes/stand-in.ts'

/*
 * A stand-in of AWS Secrets Manager and of the endpoint from which a container gets its credentials, written from the
 * published API: AWS JSON 1.1, Signature Version 4, error types. Names, labels, signatures and times are checked.
 */

export const REGION = 'eu-west-1'
const AWS_ACCOUNT = '123456789012'
/** How far a request's time may be from the server's, in ms. */
const SKEW = 5 * 60_000

interface Version {
  readonly id: string
  readonly text?: string
  readonly bytes?: Uint8Array
  readonly labels: Set<string>
}

interface StoredSecret {
  readonly versions: Version[]
  scheduledForDeletion: boolean
}

interface Credentials {
  readonly id: string
  readonly secret: string
  readonly token: string
  expired: boolean
}

/** What a secret holds: text, or bytes. */
type Value = { readonly text: string } | { readonly bytes: Uint8Array }

export interface SecretsManager extends AsyncDisposable {
  readonly server: StandIn
  /** `GetSecretValue` and so on, in the order asked. */
  readonly calls: { readonly action: string; readonly input: Readonly<Record<string, unknown>> }[]
  /** How often credentials were fetched. */
  readonly issued: number
  /** Whether the identity may read secrets. */
  permitted: boolean
  /** The server's clock, in ms ahead of this machine's. */
  ahead: number
  arn(name: string): string
  /** A new version, which is AWSCURRENT; the one before becomes AWSPREVIOUS. Returns its id. */
  put(name: string, value: Value): string
  /** A version with just these labels. */
  putLabelled(name: string, value: Value, ...labels: string[]): string
  remove(name: string): void
  scheduleDeletion(name: string): void
  /** The credentials issued last are no longer taken; the endpoint gives others. */
  expireCredentials(): void
  revokeCredentials(): void
  /** From now on the endpoint for credentials gives none. */
  withholdCredentials(): void
  /** The credentials issued last, for tests that hand them out in another way. */
  readonly credentials: Credentials
  readonly credentialsAddress: string
}

const failed = (type: string, message = '', status = 400): Reply => ({
  status,
  body: { __type: `com.amazonaws.secretsmanager#${type}`, Message: message },
})

export async function startSecretsManager(): Promise<SecretsManager> {
  const secrets = new Map<string, StoredSecret>()
  const known = new Map<string, Credentials>()
  const calls: { action: string; input: Record<string, unknown> }[] = []
  const arnOf = (name: string) => `arn:aws:secretsmanager:${REGION}:${AWS_ACCOUNT}:secret:${name}-AbCdEf`
  let issued = 0
  let withheld = false
  let credentials = issue()

  function issue(): Credentials {
    const made = { id: `AKIA${randomUUID().slice(0, 8)}`, secret: randomUUID(), token: randomUUID(), expired: false }
    known.set(made.id, made)
    return made
  }

  const credentialsServer = await startStandIn(
    () => {
      if (withheld) return { status: 404 }
      issued += 1
      const { id, secret, token } = credentials
      const end = new Date(Date.now() + 6 * 3_600_000).toISOString()
      return { status: 200, body: { AccessKeyId: id, SecretAccessKey: secret, Token: token, Expiration: end } }
    },
    { tls: false },
  )

  const server = await startStandIn((request) => {
    const reply = answer(request)
    const date = new Date(Date.now() + manager.ahead).toUTCString()
    return { ...reply, headers: { 'content-type': 'application/x-amz-json-1.1', date, ...reply.headers } }
  })

  function answer(request: SeenRequest): Reply {
    const action = String(request.headers['x-amz-target']).replace('secretsmanager.', '')
    const input = JSON.parse(request.body)
    calls.push({ action, input })
    const refused = refusal(request, known, Date.now() + manager.ahead)
    if (refused) return refused
    const who = `User: arn:aws:sts::${AWS_ACCOUNT}:assumed-role/gmsa/task`
    const denied = `${who} is not authorized to perform: secretsmanager:${action} on resource: pa55-Kanari`
    if (action === 'GetRandomPassword') {
      return manager.permitted
        ? { status: 200, body: { RandomPassword: randomUUID() } }
        : failed('AccessDeniedException', denied)
    }
    if (action !== 'GetSecretValue') return failed('InvalidAction')
    return manager.permitted ? getSecretValue(input) : failed('AccessDeniedException', denied)
  }

  function getSecretValue({ SecretId, VersionId, VersionStage }: Record<string, string>): Reply {
    const [name, secret] = [...secrets].find(([each]) => each === SecretId || arnOf(each) === SecretId) ?? []
    if (name === undefined || !secret) {
      return failed('ResourceNotFoundException', "Secrets Manager can't find the specified secret.")
    }
    if (secret.scheduledForDeletion) {
      return failed('InvalidRequestException', "You can't perform this operation on the secret: marked for deletion.")
    }
    const label = VersionStage ?? 'AWSCURRENT'
    const version = secret.versions.find(({ id, labels }) => (VersionId ? id === VersionId : labels.has(label)))
    if (!version) return failed('ResourceNotFoundException', `no value for staging label: ${label}`)
    const value = version.bytes
      ? { SecretBinary: Buffer.from(version.bytes).toString('base64') }
      : { SecretString: version.text }
    const known = { ARN: arnOf(name), Name: name, VersionId: version.id, VersionStages: [...version.labels] }
    return { status: 200, body: { ...known, CreatedDate: 1.7e9, ...value } }
  }

  function putLabelled(name: string, value: Value, ...labels: string[]): string {
    const secret = secrets.get(name) ?? { versions: [], scheduledForDeletion: false }
    secrets.set(name, secret)
    for (const version of secret.versions) for (const label of labels) version.labels.delete(label)
    const id = randomUUID()
    secret.versions.push({ id, ...value, labels: new Set(labels) })
    return id
  }

  const manager: SecretsManager = {
    server,
    calls,
    get issued() {
      return issued
    },
    permitted: true,
    ahead: 0,
    arn: arnOf,
    put(name, value) {
      const versions = secrets.get(name)?.versions ?? []
      const before = versions.find(({ labels }) => labels.has('AWSCURRENT'))
      for (const { labels } of versions) labels.delete('AWSPREVIOUS')
      before?.labels.add('AWSPREVIOUS')
      return putLabelled(name, value, 'AWSCURRENT')
    },
    putLabelled,
    remove: (name) => void secrets.delete(name),
    scheduleDeletion(name) {
      const secret = secrets.get(name)
      if (secret) secret.scheduledForDeletion = true
    },
    expireCredentials() {
      credentials.expired = true
      credentials = issue()
    },
    revokeCredentials() {
      known.delete(credentials.id)
      credentials = issue()
    },
    withholdCredentials() {
      withheld = true
    },
    get credentials() {
      return credentials
    },
    credentialsAddress: `${credentialsServer.address}/credentials`,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]()
      await credentialsServer[Symbol.asyncDispose]()
    },
  }
  return manager
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
const hmac = (key: string | Buffer, text: string) => createHmac('sha256', key).update(text).digest()

/** What the service says to a request that it does not take for one of these credentials, at this time. */
function refusal(request: SeenRequest, known: ReadonlyMap<string, Credentials>, now: number): Reply | undefined {
  const header = (name: string) => String(request.headers[name] ?? '')
  const [, id = '', scope = '', signed = '', signature = ''] =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/([^,]+), SignedHeaders=([^,]+), Signature=(\w+)$/.exec(
      header('authorization'),
    ) ?? []
  if (id === '') return failed('MissingAuthenticationToken', '', 403)
  const identity = known.get(id)
  if (!identity || identity.token !== header('x-amz-security-token')) {
    return failed('UnrecognizedClientException', 'The security token included in the request is invalid.')
  }
  const at = header('x-amz-date')
  const sentAt = Date.parse(at.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'))
  const [day = '', region = '', service = '', end = ''] = scope.split('/')
  if (!(Math.abs(sentAt - now) <= SKEW) || !at.startsWith(day)) {
    return failed('InvalidSignatureException', `Signature expired: ${at} is now earlier than ${now}`)
  }
  const headers = signed.split(';').map((name) => `${name}:${header(name)}\n`)
  const canonical = [request.method, request.path, '', headers.join(''), signed, sha256(request.body)].join('\n')
  const key = [day, region, service, end].reduce<string | Buffer>(hmac, `AWS4${identity.secret}`)
  const text = ['AWS4-HMAC-SHA256', at, scope, sha256(canonical)].join('\n')
  const good = [region, service, end].join('/') === `${REGION}/secretsmanager/aws4_request`
  if (!good || hmac(key, text).toString('hex') !== signature) {
    return failed('InvalidSignatureException', 'The request signature we calculated does not match')
  }
  return identity.expired ? failed('ExpiredTokenException', 'The security token included is expired') : undefined
}

/** Nothing of the machine's own AWS settings; credentials from the stand-in's endpoint. */
export function stubAwsEnvironment(more: Readonly<Record<string, string>>): void {
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) vi.stubEnv(name, undefined)
  const none = { AWS_SHARED_CREDENTIALS_FILE: '/nonexistent', AWS_CONFIG_FILE: '/nonexistent' }
  for (const [name, value] of Object.entries({ ...none, AWS_EC2_METADATA_DISABLED: 'true', ...more })) {
    vi.stubEnv(name, value)
  }
}

export interface AwsFixture extends OutageFixture {
  readonly manager: SecretsManager
  /** Options of a provider for the stand-in. */
  readonly options: { readonly region: string; readonly endpoint: string; readonly ca: string }
  readonly folder: string
}

/** The provider over the stand-in, for the contract, the outages and tests of its own. */
export async function awsFixture(): Promise<AwsFixture> {
  const manager = await startSecretsManager()
  const { server } = manager
  const folder = await mkdtemp(join(tmpdir(), 'gmsa-aws-'))
  const ca = join(folder, 'ca.crt')
  await writeFile(ca, server.ca)
  stubAwsEnvironment({ AWS_CONTAINER_CREDENTIALS_FULL_URI: manager.credentialsAddress })
  const options = { region: REGION, endpoint: server.address, ca }
  return {
    manager,
    options,
    folder,
    open: (context) => awsSecretsManager.open('asm', options, context),
    put: async (secret, members) => void manager.put(secret, { text: JSON.stringify(members) }),
    async putBytes(secret, password) {
      const parts = ['{"username":"svc","domainName":"ad.test","password":"', password, '"}']
      manager.put(secret, { bytes: Buffer.concat(parts.map((part) => Buffer.from(part))) })
    },
    remove: async (secret) => manager.remove(secret),
    makeUnreachable: () => server.stop(),
    hang: async () => server.fail('hang'),
    async fail(how) {
      if (how === 'forbidden') manager.permitted = false
      else if (how === 'token-expired') manager.expireCredentials()
      else if (how === 'token-revoked') manager.revokeCredentials()
      else if (how === 'refused') await server.stop()
      else if (how === 'wrong-name') await server.show('wrong-name')
      else if (how === 'unknown-ca') await server.show('other-ca')
      else server.fail(how === 'throttled' || how === 'server-error' ? ANSWERS[how] : how)
    },
    async restore() {
      manager.permitted = true
      await server.restore()
    },
    rotateCa: async () => writeFile(ca, await server.rotateCa()),
    async [Symbol.asyncDispose]() {
      vi.unstubAllEnvs()
      await manager[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

const ANSWERS: Readonly<Record<'throttled' | 'server-error', Reply>> = {
  throttled: { ...failed('ThrottlingException', 'Rate exceeded'), headers: { 'retry-after': String(RETRY_AFTER) } },
  'server-error': failed('InternalServiceError', 'pa55-Kanari', 500),
}
