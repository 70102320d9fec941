import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { dashboard } from '../../scripts/dashboard.ts'
import { root, text } from '../house/source.ts'
import { needs } from '../lab/skip.ts'
import { at, listAt } from './helm.ts'
import { strangersIn } from './promql.ts'
import { labelsOf, type Scrape, scrapeEverything } from './scrape.ts'

type Labels = Readonly<Record<string, string>>

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly labels: Labels
  readonly annotations: Labels
}

const FILE = 'charts/gmsa-account-provider/files/alerts.yaml'
const rules: readonly Rule[] = parse(text(FILE)).groups.flatMap(({ rules: each }: { rules: Rule[] }) => each)
const PROMETHEUS = needs('prometheus')
const DAY = 86_400
const JOB = { namespace: 'contoso-ad', job: 'gmsa-account-provider' }
const POD = { ...JOB, instance: 'a' }

/** An alert at its edge: with `fires` it must have fired `after` minutes, with `silent` not. */
interface Case {
  readonly alert: string
  readonly metric: string
  /** Of the series. */
  readonly labels: Labels
  /** Values of the series minute by minute, in the notation of promtool; of several series for histograms. */
  readonly fires: string | Buckets
  readonly silent: string | Buckets
  readonly after: number
  /** A second metric with the same labels that the alert needs, and its value throughout. */
  readonly beside?: { readonly metric: string; readonly value: number }
  /** Labels of the series that the alert does not have. */
  readonly without?: readonly string[]
  /** `$value` as the summary has it. */
  readonly value?: string
}

/** Values by upper bound, of a histogram. */
interface Buckets {
  readonly [bound: string]: string
}

const expiring = (alert: string, role: string, edge: number, after: number, value: string): Case => ({
  alert,
  metric: 'gmsa_provider_certificate_expiry_timestamp_seconds',
  labels: { ...POD, role },
  fires: `${edge}x${after}`,
  silent: `${edge + after * 60}x${after}`,
  after,
  value,
})
/** The same of a certificate that is valid for so many seconds. */
const expiringOf = (life: number, ...[alert, role, edge, after, value]: Parameters<typeof expiring>): Case => ({
  ...expiring(alert, role, edge, after, value),
  beside: { metric: 'gmsa_provider_certificate_start_timestamp_seconds', value: edge - life },
})
/** All take longer than a second, or none does. */
const slow = (alert: string, metric: string, label: Labels): Case => ({
  alert,
  metric: `gmsa_provider_${metric}_bucket`,
  labels: { ...POD, ...label },
  fires: { 1: '0x20', 5: '0+100x20', '+Inf': '0+100x20' },
  silent: { 1: '0+100x20', 5: '0+100x20', '+Inf': '0+100x20' },
  after: 16,
  without: ['instance', 'route'],
  value: '4.96s',
})
const denied = {
  alert: 'GmsaStoreDenied',
  metric: 'gmsa_provider_provider_reads_total',
  labels: { ...POD, provider: 'ad', outcome: 'failed', reason: 'STORE_DENIED' },
  without: ['instance', 'outcome', 'reason'],
}
const refused = {
  alert: 'GmsaLogOnRefused',
  metric: 'gmsa_provider_directory_log_ons_total',
  labels: { ...POD, provider: 'ad', credential: 'current', outcome: 'refused' },
  without: ['instance', 'outcome'],
}

const CASES: readonly Case[] = [
  { alert: 'GmsaServiceDown', metric: 'up', labels: POD, fires: '0x10', silent: '0x4 1 0x4', after: 6 },
  {
    alert: 'GmsaStoreDown',
    metric: 'gmsa_provider_provider_up',
    labels: { ...POD, provider: 'ad' },
    fires: '0x10',
    silent: '0x4 1 0x4',
    after: 6,
  },
  // The first refusal of all begins the counter; a later one adds to it; an old one is over.
  { ...denied, fires: '_x20 1x20', silent: '1x40', after: 22 },
  { ...denied, fires: '3x20 4x20', silent: '3x10 4x30', after: 23 },
  { ...refused, fires: '_x20 1x20', silent: '1x40', after: 22 },
  { ...refused, fires: '3x20 4x20', silent: '3x10 4x30', after: 23 },
  {
    alert: 'GmsaKeysStale',
    metric: 'gmsa_provider_account_stale',
    labels: { ...POD, account: 'web01' },
    fires: '1x20',
    silent: '1x8 0 1x8',
    after: 11,
  },
  {
    alert: 'GmsaRotationLate',
    metric: 'gmsa_provider_account_next_refresh_timestamp_seconds',
    labels: { ...POD, account: 'web01' },
    fires: '60x30',
    silent: '360x30',
    after: 22,
  },
  // Of those that live long, days; of those that live short, a part of their life.
  expiringOf(90 * DAY, 'GmsaCertificateExpiring', 'server', 14 * DAY, 65, '13d 22h 55m 0s'),
  expiringOf(DAY, 'GmsaCertificateExpiring', 'server', DAY / 4, 65, '4h 55m 0s'),
  expiringOf(3650 * DAY, 'GmsaCertificateEndsSoon', 'client_ca', 2 * DAY, 15, '1d 23h 45m 0s'),
  expiringOf(DAY, 'GmsaCertificateEndsSoon', 'server', DAY / 10, 15, '2h 9m 0s'),
  expiring('GmsaRevocationListEnding', 'crl', 6 * 3600, 15, '5h 45m 0s'),
  {
    alert: 'GmsaCertificateRefused',
    metric: 'gmsa_provider_certificate_reload_total',
    labels: { ...POD, outcome: 'failed' },
    fires: '0x5 1x10',
    silent: '1x15',
    after: 8,
  },
  {
    alert: 'GmsaTlsRefusals',
    metric: 'gmsa_provider_tls_rejected_total',
    labels: { ...POD, reason: 'untrusted' },
    fires: '0+7x20',
    silent: '0+5x20',
    after: 17,
    without: ['instance'],
  },
  {
    alert: 'GmsaRequestsFailing',
    metric: 'gmsa_provider_requests_total',
    labels: { ...POD, route: '/provider', code: '503', outcome: 'failed', reason: 'STORE_UNAVAILABLE' },
    fires: '0+2x20',
    silent: '0+1x20',
    after: 17,
    without: ['instance', 'code', 'outcome'],
  },
  slow('GmsaSlowAnswers', 'request_duration_seconds', { route: '/provider' }),
  slow('GmsaSlowStore', 'provider_read_duration_seconds', { provider: 'ad' }),
  {
    alert: 'GmsaPluginLogsPasswords',
    metric: 'gmsa_provider_ccg_debug_log_enabled',
    labels: POD,
    fires: '1x5',
    silent: '0x5',
    after: 1,
  },
]

/** A series in the notation of promtool, or several for a histogram. */
function seriesOf(metric: string, labels: Labels, values: string | Buckets): { series: string; values: string }[] {
  if (typeof values !== 'string') {
    return Object.entries(values).flatMap(([le, each]) => seriesOf(metric, { ...labels, le }, each))
  }
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${value}"`)
  return [{ series: `${metric}{${pairs.join(', ')}}`, values }]
}

/** The alert as it must come: its labels, and its texts with these filled in. */
function expected({ alert, labels, without = [], value = '' }: Case) {
  const rule = rules.find((each) => each.alert === alert)
  if (!rule) throw new Error(`there is no alert ${alert}`)
  const own = Object.fromEntries(Object.entries(labels).filter(([name]) => !without.includes(name)))
  const fill = (template: string) =>
    template.replaceAll(/\{\{ \$(?:labels\.(\w+)|value \| humanizeDuration) \}\}/g, (_, name) =>
      name ? (own[name] ?? `no label ${name}`) : value,
    )
  const texts = Object.entries(rule.annotations).map(([name, template]) => [name, fill(template)])
  return { exp_labels: { ...own, ...rule.labels }, exp_annotations: Object.fromEntries(texts) }
}

function promtool(...args: readonly string[]): { code: number; said: string } {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8', timeout: 60_000 })
  return { code: status ?? -1, said: stdout + stderr }
}

describe.skipIf(!PROMETHEUS)('the alerts, judged by promtool,', () => {
  const folder = mkdtempSync(join(tmpdir(), 'gmsa-alerts-'))
  beforeAll(() => copyFileSync(join(root, FILE), join(folder, 'alerts.yaml')))
  afterAll(() => rmSync(folder, { recursive: true }))

  test('are rules', () => {
    expect(promtool('check', 'rules', join(folder, 'alerts.yaml'))).toMatchObject({ code: 0 })
  })

  function judge(each: Case, values: string | Buckets, alerts: readonly object[]) {
    const scenario = {
      rule_files: ['alerts.yaml'],
      evaluation_interval: '1m',
      tests: [
        {
          interval: '1m',
          input_series: [
            ...seriesOf(each.metric, each.labels, values),
            ...(each.beside ? seriesOf(each.beside.metric, each.labels, `${each.beside.value}x${each.after}`) : []),
          ],
          alert_rule_test: [{ eval_time: `${each.after}m`, alertname: each.alert, exp_alerts: alerts }],
        },
      ],
    }
    // JSON is YAML.
    writeFileSync(join(folder, 'test.yaml'), JSON.stringify(scenario))
    return promtool('test', 'rules', join(folder, 'test.yaml'))
  }

  test.each(CASES)('$alert fires on $metric $fires, with its words', (each) => {
    const { code, said } = judge(each, each.fires, [expected(each)])
    expect(said).toContain('SUCCESS')
    expect(code).toBe(0)
  })

  test.each(CASES)('$alert keeps silent on $metric $silent', (each) => {
    expect(judge(each, each.silent, []).said).toContain('SUCCESS')
  })
})

test('every alert has its case', () => {
  expect(new Set(CASES.map(({ alert }) => alert))).toEqual(new Set(rules.map(({ alert }) => alert)))
})

test('every alert says how bad it is, what is wrong and what to do', () => {
  for (const { labels, annotations } of rules) {
    expect(['warning', 'critical']).toContain(labels['severity'])
    expect(annotations).toEqual({ summary: expect.any(String), description: expect.any(String) })
  }
})

describe('what a real service shows in /metrics', () => {
  let text: string
  let scrape: Scrape
  beforeAll(async () => {
    text = await scrapeEverything()
    scrape = labelsOf(text)
  })
  const queries = () =>
    listAt(dashboard(), 'panels').flatMap((panel) =>
      listAt(panel, 'targets').map((target) => [String(at(panel, 'title')), String(at(target, 'expr'))] as const),
    )

  test.each(rules)('has the metrics and labels of $alert', ({ expr }) => {
    expect(strangersIn(expr, scrape)).toEqual([])
  })

  test.each(queries())('has the metrics and labels of the panel %s', (_, expr) => {
    expect(strangersIn(expr, scrape)).toEqual([])
  })

  test('has the very series that the alerts are tried with', () => {
    for (const { metric, labels, fires } of CASES.filter(({ metric: name }) => name !== 'up')) {
      const own = Object.keys(labels).filter((name) => !(name in POD))
      expect([...(scrape.get(metric) ?? [])].toSorted(), metric).toEqual(
        [...own, ...(typeof fires === 'string' ? [] : ['le'])].toSorted(),
      )
    }
  })

  test('counts a log-on of ours that a directory refuses where GmsaStoreDenied looks', () => {
    const { expr } = rules.find(({ alert }) => alert === denied.alert) ?? { expr: '' }
    const [, series = ''] = /(gmsa_\w+)\{reason="STORE_DENIED"\}/.exec(expr) ?? []
    expect(text).toContain(`${series}{provider="ad",outcome="failed",reason="STORE_DENIED"} 1\n`)
  })

  test('lacks what nobody measures', () => {
    expect(strangersIn('gmsa_provider_logins_total{reason="x"}', scrape)).toEqual([
      'gmsa_provider_logins_total',
      'label reason',
    ])
    expect(strangersIn('sum by (acount) (gmsa_provider_account_stale)', scrape)).toEqual(['label acount'])
    expect(strangersIn('gmsa_provider_account_stale{acount="a"}', scrape)).toEqual(['label acount'])
    expect(strangersIn('1 == 1', scrape)).toEqual(['no metric'])
  })
})

describe('the dashboard', () => {
  const panels = listAt(dashboard(), 'panels')

  test('has a fixed name, its data source as a variable, and a unit on every panel', () => {
    expect(at(dashboard(), 'uid')).toBe('gmsa-account-provider')
    expect(at(dashboard(), 'id')).toBeUndefined()
    expect(panels.length).toBeGreaterThan(10)
    for (const panel of panels) {
      expect(at(panel, 'datasource', 'uid')).toBe(['$', '{datasource}'].join(''))
      expect(at(panel, 'fieldConfig', 'defaults', 'unit')).toMatch(/^\w+$/)
    }
  })

  test('lays no panel over another', () => {
    const cells = panels.flatMap((panel) => {
      const [x, y, w] = ['x', 'y', 'w'].map((name) => Number(at(panel, 'gridPos', name)))
      return Array.from({ length: w ?? 0 }, (_, column) => `${(x ?? 0) + column} ${y}`)
    })
    expect(new Set(cells).size).toBe(cells.length)
    expect(cells.every((cell) => Number(cell.split(' ')[0]) < 24)).toBe(true)
  })

  test.skipIf(!PROMETHEUS)('asks what Prometheus understands', () => {
    const exprs = panels.flatMap((panel) => listAt(panel, 'targets').map((target) => String(at(target, 'expr'))))
    const filled = exprs.map((expr, index) => ({
      record: `panel:${index}`,
      expr: expr.replaceAll('$__rate_interval', '5m').replaceAll('$namespace', '.*'),
    }))
    const folder = mkdtempSync(join(tmpdir(), 'gmsa-dashboard-'))
    writeFileSync(join(folder, 'rules.yaml'), JSON.stringify({ groups: [{ name: 'dashboard', rules: filled }] }))
    expect(promtool('check', 'rules', join(folder, 'rules.yaml')).said).toContain(`SUCCESS: ${filled.length} rules`)
    rmSync(folder, { recursive: true })
  })
})
