import { join } from 'node:path'
import type { Domain } from './domain.ts'
import { type Acceptance, accept } from './tickets.ts'

/** Samba's tickets live so long, in ms. */
const LIFETIME = 10 * 3_600_000

/** An ordinary user's tickets for all services of one gMSA, issued at one time. */
export interface TicketSet {
  /** When they were issued, in words. */
  readonly when: string
  readonly ccache: string
  /** When they end, in ms that the clock is ahead. */
  readonly until: number
}

export interface LiveTickets {
  /** Takes tickets now. */
  take(when: string, ahead: number): Promise<TicketSet>
  /** The tickets that have not ended, the oldest first. */
  alive(ahead: number): readonly TicketSet[]
  /** What acceptors make of these sets, by set: undefined where they take the tickets for every service. */
  refusals(keytab: string, sets: readonly TicketSet[]): Promise<Acceptance[]>
}

export function makeLiveTickets(domain: Domain, services: readonly string[]): LiveTickets {
  const taken: TicketSet[] = []
  return {
    async take(when, ahead) {
      const ccache = `FILE:${join(domain.state, `live-${services[0]?.replace(/\W/g, '-')}-${taken.length}`)}`
      const user = await domain.kinit(domain.ccg.username, domain.ccg.password)
      const args = ['-q', '-c', user.ccache, '--out-cache', ccache, ...services]
      const { code, stderr } = await domain.run('kvno', args)
      if (code !== 0 || stderr !== '') throw new Error(`kvno: ${user.stderr}${stderr}`)
      const set = { when, ccache, until: ahead + LIFETIME }
      taken.push(set)
      return set
    },
    alive: (ahead) => taken.filter(({ until }) => ahead < until),
    async refusals(keytab, sets) {
      const ccaches = sets.map(({ ccache }) => ccache)
      const answers = await Promise.all(services.map((service) => accept(domain, keytab, service, ccaches)))
      const joined = (kind: keyof Acceptance, index: number) => {
        const problems = answers.flatMap((each, place) => {
          const { [kind]: problem } = each[index] ?? {}
          return problem === undefined ? [] : [`${services[place]}: ${problem}`]
        })
        return problems.length === 0 ? undefined : problems.join('; ')
      }
      return sets.map((_, index) => ({ strict: joined('strict', index), any: joined('any', index) }))
    },
  }
}
