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
      const ccache = `FILE:${join(domain.state, 'own')}`
      const { code, stderr } = await domain.run('kinit', [
        '-k',
        '-t',
        keytab,
        '-c',
        ccache,
        `${account}@${domain.realm}`,
      ])
      return code === 0 ? [] : [`kinit -k: ${stderr.trim()}`]
    },
    async accept(keytab) {
      const script = join(import.meta.dirname, 'acceptor.py')
      const args = [script, keytab, `${service}@${domain.realm}`, ...tickets]
      const { stdout, stderr } = await domain.run('/usr/bin/python3', args)
      const lines = stdout.split('\n').filter((line) => line !== '')
      const problems = lines.length === tickets.length ? [] : [`acceptor: ${stderr.slice(-300)}`]
      lines.forEach((line, index) => {
        const answer: Record<string, { client?: string; error?: string }> = JSON.parse(line)
        for (const kind of ['strict', 'any']) {
          const { client, error } = answer[kind] ?? {}
          if (client !== `svc-ccg@${domain.realm}`)
            problems.push(`ticket ${index}, ${kind} acceptor: ${error ?? client}`)
        }
      })
      return problems
    },
  }
}
