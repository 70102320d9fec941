import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { makeRig } from '../fakes/rig.ts'
import { freePort } from '../lab/free-port.ts'
import { needs } from '../lab/skip.ts'

/** A real Prometheus on loopback that scrapes these targets every second; stopped by its PID. */
async function startPrometheus(target: string) {
  const directory = await mkdtemp(join(tmpdir(), 'gmsa-prometheus-'))
  const port = await freePort()
  const config = {
    global: { scrape_interval: '1s', scrape_timeout: '1s' },
    scrape_configs: [{ job_name: 'gmsa-account-provider', static_configs: [{ targets: [target] }] }],
  }
  // JSON is YAML.
  await writeFile(join(directory, 'prometheus.yml'), JSON.stringify(config))
  const child = spawn(
    'prometheus',
    [
      `--config.file=${join(directory, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=error',
    ],
    { stdio: 'ignore' },
  )
  const ended = once(child, 'exit')
  return {
    async query(expression: string): Promise<{ metric: Record<string, string>; value: [number, string] }[]> {
      const url = `http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(expression)}`
      const response = await fetch(url, { signal: AbortSignal.timeout(2_000) }).catch(() => undefined)
      if (!response?.ok) return []
      const { data } = (await response.json()) as { data: { result: never[] } }
      return data.result
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      const cut = setTimeout(() => child.kill('SIGKILL'), 5_000)
      await ended
      clearTimeout(cut)
      await rm(directory, { recursive: true, force: true })
    },
  }
}

describe.skipIf(!needs('prometheus'))('a real Prometheus', () => {
  test('scrapes the admin listener: up is 1, and the requests are counted', async () => {
    await using rig = await makeRig()
    for (let count = 0; count < 3; count++) await rig.provider('test-secret')
    await using prometheus = await startPrometheus(`127.0.0.1:${rig.service.admin.port}`)
    const deadline = performance.now() + 30_000
    let samples = await prometheus.query('up')
    while (samples[0]?.value[1] !== '1' && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 100))
      samples = await prometheus.query('up')
    }
    expect(samples.map(({ value }) => value[1])).toEqual(['1'])
    const [requests] = await prometheus.query('gmsa_provider_requests_total{route="/provider",outcome="ok"}')
    expect(requests?.value[1]).toBe('3')
    const [quantile] = await prometheus.query(
      'histogram_quantile(0.99, sum by (le) (gmsa_provider_request_duration_seconds_bucket))',
    )
    expect(Number(quantile?.value[1])).toBeGreaterThan(0)
  })
})
