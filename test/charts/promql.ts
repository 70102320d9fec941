import type { Scrape } from './scrape.ts'

/** Labels that Prometheus and its operator add to what a service says. */
const ADDED = ['job', 'instance', 'namespace', 'pod']
/** Series of Prometheus itself. */
const OWN: Scrape = new Map([['up', new Set<string>()]])

/**
 * What an expression names that a scrape does not have: metrics, and labels in selectors and groupings. Enough of
 * PromQL for our own rules: every metric has an underscore or is `up`, as no function of ours but these has.
 */
export function strangersIn(expression: string, scrape: Scrape): string[] {
  const bare = expression.replaceAll(/"[^"]*"/g, '""').replaceAll(/\[[^\]]*\]/g, '')
  const metrics = [...bare.matchAll(/\b(?:gmsa_|process_|nodejs_)\w+|\bup\b/g)].map(([name]) => name)
  const labels = new Set([...ADDED, ...metrics.flatMap((name) => [...(scrape.get(name) ?? [])])])
  const groups = [...bare.matchAll(/\b(?:by|without) \(([^)]*)\)/g)].flatMap(([, names = '']) => names.split(/,\s*/))
  const selectors = [...bare.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*""/g)].map(([, name = '']) => name)
  return [
    ...(metrics.length === 0 ? ['no metric'] : []),
    ...metrics.filter((name) => !scrape.has(name) && !OWN.has(name)),
    ...[...groups, ...selectors].filter((name) => !labels.has(name)).map((name) => `label ${name}`),
  ]
}
