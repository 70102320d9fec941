/** What became of another tool's configuration. */
export interface Imported {
  /** Documents of the two configuration files. */
  readonly service: Readonly<Record<string, unknown>>
  readonly agent: Readonly<Record<string, unknown>>
  readonly notes: readonly Note[]
}

/** An option that could not be carried over, or that needs something of the operator; and what to do. */
export interface Note {
  /** As written; counted from 1, absent where it stands in no line. */
  readonly option: string
  readonly line?: number
  readonly advice: string
}

/** The label under which the agent's certificate is known to the service. */
const AGENT_NAME = 'gmsa-agent'

/** The folder of the configuration, whose parts the imported files name. */
export const CERTIFICATE_NOTE: Note = {
  option: 'TLS',
  advice: [
    `issue a server certificate and a client certificate with the common name ${AGENT_NAME}, and put them where both files say`,
    "for a trial: gmsa-account-provider certs certs, beside the files; its client's name, demo-client, goes into clients",
  ].join('; '),
}

/** The sections of the service's file that no other tool has, around what was imported. */
export function serviceDocument(
  providers: Readonly<Record<string, unknown>>,
  accounts: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  return {
    tls: { certificate: 'certs/server/tls.crt', key: 'certs/server/tls.key', clientCa: 'certs/ca/ca.crt' },
    providers,
    accounts,
    clients: [{ match: { commonName: AGENT_NAME }, allow: ['keytab'], accounts: Object.keys(accounts) }],
  }
}

/** The same of the agent's. */
export function agentDocument(accounts: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return {
    servers: ['https://localhost:8443'],
    tls: { certificate: 'certs/client/tls.crt', key: 'certs/client/tls.key', ca: 'certs/ca/ca.crt' },
    accounts,
  }
}

/** A name that may be an account's, made of a label; another one than those taken. */
export function accountName(label: string, taken: readonly string[]): string {
  const plain = label
    .toLowerCase()
    .replace(/[^a-z0-9.-]+/g, '-')
    .replace(/^[.-]+|[.-]+$/g, '')
    .replace(/[.-]{2,}/g, '-')
    .slice(0, 200)
  const name = plain === '' ? 'account' : plain
  if (!taken.includes(name)) return name
  let number = 2
  while (taken.includes(`${name}-${number}`)) number += 1
  return `${name}-${number}`
}
