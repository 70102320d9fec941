import { Resolver } from 'node:dns/promises'

/** One SRV record (RFC 2782). */
export interface ServerRecord {
  readonly name: string
  readonly port: number
  readonly priority: number
  readonly weight: number
}

/** Asks the DNS for SRV records; rejects with an error whose `code` is the DNS's. */
export type Resolve = (name: string) => Promise<readonly ServerRecord[]>

/** Two tries of a second and a half: a silent DNS server must leave time for the server that is looked for. */
export const askDns: Resolve = (name) => new Resolver({ timeout: 1_500, tries: 2 }).resolveSrv(name)

/**
 * The records in the order to try them (RFC 2782): the lowest priority first; within one, drawn by weight. Records
 * with the name `.` say that there is no such service. `random` gives numbers from 0 to below 1.
 */
export function orderRecords<R extends ServerRecord>(records: readonly R[], random: () => number): R[] {
  const left = records.filter(({ name }) => name !== '' && name !== '.').toSorted((a, b) => a.weight - b.weight)
  const order: R[] = []
  while (left.length > 0) {
    const priority = Math.min(...left.map((each) => each.priority))
    const peers = left.filter((each) => each.priority === priority)
    const record = drawByWeight(peers, random)
    if (!record) break
    left.splice(left.indexOf(record), 1)
    order.push(record)
  }
  return order
}

/** One of the records, those of weight 0 first: the first whose running sum reaches the number drawn. */
function drawByWeight<R extends ServerRecord>(records: readonly R[], random: () => number): R | undefined {
  const total = records.reduce((sum, { weight }) => sum + weight, 0)
  if (total === 0) return records[Math.floor(random() * records.length)]
  let left = Math.floor(random() * (total + 1))
  return records.find(({ weight }) => {
    left -= weight
    return left <= 0
  })
}
