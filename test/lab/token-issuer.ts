import { createSign, generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'

/** Signs JWTs that last five minutes, and shows the key to verify them with. */
export function makeIssuer() {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url')
  return {
    publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    sign(claims: object): string {
      const now = Math.floor(Date.now() / 1000)
      const text = `${encode({ alg: 'RS256', typ: 'JWT' })}.${encode({ iss: 'test', iat: now, exp: now + 300, ...claims })}`
      return `${text}.${createSign('RSA-SHA256').update(text).sign(privateKey, 'base64url')}`
    },
  }
}

/** The claims of a projected service account token that OpenBao looks at before it asks the API server. */
export function serviceAccount(namespace: string, name: string) {
  const uid = '5ca1ab1e'
  return {
    sub: `system:serviceaccount:${namespace}:${name}`,
    aud: ['bao'],
    'kubernetes.io': { namespace, serviceaccount: { name, uid } },
  }
}

/** As much of a Kubernetes API server as reviews tokens: it believes every one but those with a claim `unknown`. */
export async function startTokenReview() {
  const seen: string[] = []
  const review = async (request: IncomingMessage) => {
    seen.push(`${request.method} ${request.url}`)
    let body = ''
    for await (const chunk of request) body += chunk
    const { token } = JSON.parse(body).spec
    const { sub, unknown } = JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString())
    const user = { username: sub, uid: '5ca1ab1e', groups: ['system:serviceaccounts'] }
    const status = unknown ? { authenticated: false } : { authenticated: true, user, audiences: ['bao'] }
    return JSON.stringify({ apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', status })
  }
  const server = createServer((request, response) => {
    response.writeHead(201, { 'content-type': 'application/json' })
    void review(request).then((answer) => response.end(answer))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    seen,
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
    },
  }
}
