import type { Identity } from './identity.ts'
import type { AgentStatus, OutputStatus } from './status.ts'

export interface Metrics {
  hookRun(account: string, outcome: 'ok' | 'failed'): void
  /** The text that Prometheus reads (exposition format 0.0.4). */
  render(status: AgentStatus, identity: Identity | undefined): string
}

const PREFIX = 'gmsa_agent_'

type Labels = Readonly<Record<string, string>>
type Sample = readonly [labels: Labels, value: number | undefined]

/** Written by hand: a handful of gauges is no reason to hold a library in every sidecar's memory. */
export function makeAgentMetrics({ version, commit }: { readonly version: string; readonly commit: string }): Metrics {
  const hookRuns = new Map<string, Sample>()
  return {
    hookRun(account, outcome) {
      const key = `${outcome} ${account}`
      const [, runs = 0] = hookRuns.get(key) ?? []
      hookRuns.set(key, [{ account, outcome }, runs + 1])
    },
    render(status, identity) {
      const { outputs, disabled } = status
      const each = (value: (output: OutputStatus) => number | undefined): Sample[] =>
        outputs.map((output) => [{ account: output.account, kind: output.kind }, value(output)])
      return [
        metric('ready', 'gauge', 'Whether the file can be relied on; 0 for accounts left out.', [
          ...each(({ ready }) => Number(ready)),
          ...disabled.map(({ account }): Sample => [{ account, kind: '' }, 0]),
        ]),
        metric(
          'last_success_timestamp_seconds',
          'gauge',
          'When the file was last known to be right.',
          each(({ lastSuccess }) => seconds(lastSuccess)),
        ),
        metric(
          'next_rotation_timestamp_seconds',
          'gauge',
          'When the keys may change next, as the service says.',
          each(({ refreshAt }) => seconds(refreshAt)),
        ),
        metric(
          'kvno',
          'gauge',
          'Key version number of the key in force.',
          each(({ kvno }) => kvno),
        ),
        metric(
          'entries',
          'gauge',
          'Keys, or tickets, in the file.',
          each(({ entries }) => entries),
        ),
        metric(
          'stale_seconds',
          'gauge',
          'Age of what the service goes by while its store is out; 0 else.',
          each(({ stale = 0 }) => stale),
        ),
        metric(
          'hook_pending',
          'gauge',
          'Whether a change is still to be told.',
          each(({ hookPending }) => Number(hookPending ?? 0)),
        ),
        metric('hook_runs_total', 'counter', 'Runs of commands and signals after a change.', [...hookRuns.values()]),
        metric('certificate_expiry_timestamp_seconds', 'gauge', "When the client's certificate ends.", [
          [{}, seconds(identity?.expires.toISOString())],
        ]),
        metric('build_info', 'gauge', 'Version of this agent; always 1.', [
          [{ version, commit, node: process.version }, 1],
        ]),
      ].join('')
    },
  }
}

function metric(name: string, type: 'gauge' | 'counter', help: string, samples: readonly Sample[]): string {
  const lines = samples.flatMap(([labels, value]) => {
    return value === undefined ? [] : [`${PREFIX}${name}${format(labels)} ${value}\n`]
  })
  if (lines.length === 0) return ''
  return `# HELP ${PREFIX}${name} ${help}\n# TYPE ${PREFIX}${name} ${type}\n${lines.join('')}`
}

function format(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${value.replace(/[\\"\n]/g, escaped)}"`)
  return pairs.length > 0 ? `{${pairs.join(',')}}` : ''
}

const escaped = (character: string) => (character === '\n' ? '\\n' : `\\${character}`)

const seconds = (time: string | undefined) => (time === undefined ? undefined : Math.floor(Date.parse(time) / 1000))
