import { join } from 'node:path'
import type { Domain } from './domain.ts'

/** Tickets of many ages for one service of the lab, and what a Kerberos client and an acceptor make of keytabs. */
export interface Tickets {
  /** Logs an ordinary user on, and forgets the tickets taken before. */
  start(): Promise<void>
  /** Takes a ticket for the service, issued now, into a cache of its own. */
  take(): Promise<void>
  /** What goes wrong when `account` logs on with the key of this keytab; nothing where it works. */
  logOn(keytab: string, account: string): Promise<string[]>
  /** What goes wrong when acceptors with this keytab are shown all tickets, by the name asked for or any. */
  accept(keytab: string): Promise<string[]>
}

/** What two acceptors make of a ticket: why they refuse it, undefined where they take it. */
export interface Acceptance {
  /** Bound to the service's name: looks up exactly that principal, kvno and enctype. */
  readonly strict: string | undefined
  /** Takes any key of the file. */
  readonly any: string | undefined
}

/** Why `account` can't log on with the key of this keytab; undefined where it can. */
export async function logOn(domain: Domain, keytab: string, account: string): Promise<string | undefined> {
  const args = ['-k', '-t', keytab, '-c', 'MEMORY:own', `${account}@${domain.realm}`]
  const { code, stderr } = await domain.run('kinit', args)
  return code === 0 ? undefined : `kinit -k: ${stderr.trim()}`
}

/** What acceptors with this keytab make of svc-ccg's tickets for `service`, one in each of these caches, in their order. */
export async function accept(
  domain: Domain,
  keytab: string,
  service: string,
  ccaches: readonly string[],
): Promise<Acceptance[]> {
  const script = join(import.meta.dirname, 'acceptor.py')
  const args = [script, keytab, `${service}@${domain.realm}`, ...ccaches]
  const { stdout, stderr } = await domain.run('/usr/bin/python3', args)
  const lines = stdout.split('\n').filter((line) => line !== '')
  if (lines.length !== ccaches.length) throw new Error(`acceptor: ${stderr.slice(-300)}`)
  const problemOf = ({ client, error }: { client?: string; error?: string } = {}) =>
    client === `svc-ccg@${domain.realm}` ? undefined : (error ?? `takes it as ${client}`)
  return lines.map((line) => {
    const answer: Record<string, { client?: string; error?: string }> = JSON.parse(line)
    return { strict: problemOf(answer['strict']), any: problemOf(answer['any']) }
  })
}

export function makeTickets(domain: Domain, service: string): Tickets {
  const tickets: string[] = []
  let grantingTicket = ''
  let made = 0
  return {
    async start() {
      tickets.length = 0
      const { code, stderr, ccache } = await domain.kinit(domain.ccg.username, domain.ccg.password)
      if (code !== 0 || stderr !== '') throw new Error(`kinit: ${stderr}`)
      grantingTicket = ccache
    },
    async take() {
      made += 1
      const ccache = `FILE:${join(domain.state, `service-${made}`)}`
      const { code, stderr } = await domain.run('kvno', ['-q', '-c', grantingTicket, '--out-cache', ccache, service])
      if (code !== 0 || stderr !== '') throw new Error(`kvno: ${stderr}`)
      tickets.push(ccache)
    },
    async logOn(keytab, account) {
      const problem = await logOn(domain, keytab, account)
      return problem === undefined ? [] : [problem]
    },
    async accept(keytab) {
      const answers = await accept(domain, keytab, service, tickets)
      return answers.flatMap((answer, index) =>
        Object.entries(answer).flatMap(([kind, problem]) =>
          problem === undefined ? [] : [`ticket ${index}, ${kind} acceptor: ${problem}`],
        ),
      )
    },
  }
}
