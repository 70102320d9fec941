/** The Grafana dashboard, from which the chart's files/dashboard.json is generated. */

interface Query {
  readonly expr: string
  readonly legend: string
}

interface Panel {
  readonly title: string
  readonly type: 'stat' | 'timeseries'
  readonly unit: string
  readonly queries: readonly Query[]
  /** Of 24 columns. */
  readonly width: number
  /** From this value on the panel is red; below, where it is the lower bound of what is good. */
  readonly red?: { readonly above: number } | { readonly below: number }
}

const HEIGHT = 7
const DATASOURCE = { type: 'prometheus', uid: '$' + '{datasource}' }
/** Every series of the chosen namespaces; outside of Kubernetes series have no namespace, which .* matches too. */
const CHOSEN = 'namespace=~"$namespace"'
const metric = (name: string, labels = '') => `gmsa_provider_${name}{${labels}${labels && ', '}${CHOSEN}}`
const rate = (name: string, by: string, labels = '') =>
  `sum by (${by}) (rate(${metric(name, labels)}[$__rate_interval]))`
const quantile = (of: number, name: string, by = '') =>
  `histogram_quantile(${of}, ${rate(`${name}_bucket`, by ? `le, ${by}` : 'le')})`

const PANELS: readonly Panel[] = [
  stat('Services that answer', 'short', `sum(up{job="gmsa-account-provider", ${CHOSEN}})`, { below: 1 }),
  stat('Stores that do not answer', 'short', `count(${metric('provider_up')} == 0) or vector(0)`, { above: 1 }),
  stat('Accounts with stale keys', 'short', `sum(${metric('account_stale')}) or vector(0)`, { above: 1 }),
  stat('First certificate to end', 's', `min(${metric('certificate_expiry_timestamp_seconds')}) - time()`, {
    below: 14 * 86_400,
  }),
  stat('First reading due', 's', `min(${metric('account_next_refresh_timestamp_seconds')}) - time()`, { below: -900 }),
  stat('Plug-ins that log passwords', 'short', `sum(${metric('ccg_debug_log_enabled')}) or vector(0)`, { above: 1 }),
  chart('Requests', 'reqps', [{ expr: rate('requests_total', 'route, outcome'), legend: '{{route}} {{outcome}}' }]),
  chart('Requests refused or failed, by code', 'reqps', [
    { expr: rate('requests_total', 'reason', 'outcome!="ok"'), legend: '{{reason}}' },
  ]),
  chart('Time to answer', 's', [
    { expr: quantile(0.5, 'request_duration_seconds'), legend: 'median' },
    { expr: quantile(0.99, 'request_duration_seconds'), legend: '99 %' },
  ]),
  chart('Connections refused before any request', 'cps', [
    { expr: rate('tls_rejected_total', 'reason'), legend: '{{reason}}' },
  ]),
  chart('Reads of the stores', 'ops', [
    { expr: rate('provider_reads_total', 'provider, reason'), legend: '{{provider}} {{reason}}' },
  ]),
  chart('Time for one read, 99 %', 's', [
    { expr: quantile(0.99, 'provider_read_duration_seconds', 'provider'), legend: '{{provider}}' },
  ]),
  chart('What the cache had', 'ops', [{ expr: rate('cache_reads_total', 'result'), legend: '{{result}}' }]),
  chart('Domain controllers', 'ops', [
    { expr: rate('directory_reads_total', 'server, outcome'), legend: '{{server}} {{outcome}}' },
  ]),
  chart('Log-ons to directories', 'ops', [
    { expr: rate('directory_log_ons_total', 'credential, outcome'), legend: '{{credential}} {{outcome}}' },
  ]),
  chart('Key version numbers', 'none', [
    { expr: `max by (account) (${metric('account_kvno')})`, legend: '{{account}}' },
  ]),
  chart('Since the last good reading', 's', [
    { expr: `time() - max by (account) (${metric('account_last_success_timestamp_seconds')})`, legend: '{{account}}' },
  ]),
  chart('Memory', 'bytes', [
    { expr: `process_resident_memory_bytes{job="gmsa-account-provider", ${CHOSEN}}`, legend: '{{instance}}' },
  ]),
  chart('Reloads of TLS files', 'ops', [{ expr: rate('certificate_reload_total', 'outcome'), legend: '{{outcome}}' }]),
]

function stat(title: string, unit: string, expr: string, red: Panel['red']): Panel {
  return { title, type: 'stat', unit, queries: [{ expr, legend: '' }], width: 4, ...(red && { red }) }
}

function chart(title: string, unit: string, queries: readonly Query[]): Panel {
  return { title, type: 'timeseries', unit, queries, width: 12 }
}

function thresholds({ red }: Panel) {
  if (!red) return { mode: 'absolute', steps: [{ color: 'green', value: null }] }
  const [before, after, at] = 'above' in red ? ['green', 'red', red.above] : ['red', 'green', red.below]
  const steps = [
    { color: before, value: null },
    { color: after, value: at },
  ]
  return { mode: 'absolute', steps }
}

/** The panels from left to right and from top to bottom. */
function placed(): object[] {
  let [x, y] = [0, 0]
  return PANELS.map((panel, index) => {
    if (x + panel.width > 24) [x, y] = [0, y + HEIGHT]
    const gridPos = { x, y, w: panel.width, h: HEIGHT }
    x += panel.width
    return {
      id: index + 1,
      type: panel.type,
      title: panel.title,
      datasource: DATASOURCE,
      gridPos,
      fieldConfig: { defaults: { unit: panel.unit, thresholds: thresholds(panel) }, overrides: [] },
      targets: panel.queries.map(({ expr, legend }, query) => ({
        refId: String.fromCodePoint(65 + query),
        expr,
        legendFormat: legend,
        datasource: DATASOURCE,
      })),
    }
  })
}

/** The document that Grafana imports. */
export function dashboard(): object {
  return {
    uid: 'gmsa-account-provider',
    title: 'gMSA account provider',
    tags: ['gmsa', 'active-directory'],
    schemaVersion: 39,
    refresh: '1m',
    time: { from: 'now-6h', to: 'now' },
    templating: {
      list: [
        { name: 'datasource', type: 'datasource', query: 'prometheus' },
        {
          name: 'namespace',
          type: 'query',
          datasource: DATASOURCE,
          query: 'label_values(gmsa_provider_build_info, namespace)',
          includeAll: true,
          allValue: '.*',
          multi: true,
          current: { text: 'All', value: '$__all' },
        },
      ],
    },
    panels: placed(),
  }
}
