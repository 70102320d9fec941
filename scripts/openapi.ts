import swagger from '@fastify/swagger'
import fastify from 'fastify'
import { ERRORS } from '../src/base/errors.ts'
import { addRoutes } from '../src/server/app.ts'
import type { AccountContext } from '../src/server/conditional.ts'

/** The OpenAPI 3.1 description of the data listener, made from the routes' own schemas. */
export async function describeInterface(version: string): Promise<string> {
  const app = fastify({ exposeHeadRoutes: false })
  app.setValidatorCompiler(() => () => true)
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'gmsa-account-provider',
        version,
        description:
          'Served over mutual TLS. Errors carry their code in the header gmsa-error; under /v1/ they have a problem document (RFC 9457), elsewhere no body.',
        license: { name: 'Apache-2.0' },
      },
    },
  })
  // No route asks the broker anything while it is only described.
  await app.register(async (scope) => addRoutes(scope, {} as AccountContext))
  await app.ready()
  const document: Description = JSON.parse(JSON.stringify(app.swagger()))
  await app.close()
  // OpenAPI 3.1's own, which the generator's types do not know yet.
  document.components = { securitySchemes: { certificate: MUTUAL_TLS } }
  document.security = [{ certificate: [] }]
  for (const [path, operations] of Object.entries(document.paths)) {
    for (const operation of Object.values(operations)) {
      operation.responses['default'] = path.startsWith('/v1/') ? PROBLEM : BARE_ERROR
    }
  }
  return `${JSON.stringify(document, null, 2)}\n`
}

interface Description {
  components?: object
  security?: readonly object[]
  readonly paths: Record<string, Record<string, { readonly responses: Record<string, object> }>>
}

const MUTUAL_TLS = { type: 'mutualTLS', description: 'A client certificate issued under tls.clientCa.' }

const CODE_HEADER = {
  'gmsa-error': {
    description: 'Why; the codes stand in docs/errors.md.',
    schema: { type: 'string', enum: Object.keys(ERRORS) },
  },
}

const BARE_ERROR = { description: 'Any error: no body.', headers: CODE_HEADER }

const PROBLEM = {
  description: 'Any error: a problem document (RFC 9457).',
  headers: CODE_HEADER,
  content: {
    'application/problem+json': {
      schema: {
        type: 'object',
        required: ['type', 'title', 'status', 'detail', 'code', 'instance'],
        properties: {
          type: { type: 'string' },
          title: { type: 'string' },
          status: { type: 'integer' },
          detail: { type: 'string' },
          code: { type: 'string' },
          instance: { type: 'string', description: 'The request id, as the audit line has it.' },
        },
      },
    },
  },
}
