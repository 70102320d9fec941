import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { valueRows } from '../../scripts/chart-values.ts'
import { commandsOf } from '../house/markdown.ts'
import { root, text } from '../house/source.ts'
import { needs } from '../lab/skip.ts'
import { helm, listAt, only, parseObjects, podsOf, render, template } from './helm.ts'
import { problemsOf } from './kubernetes.ts'

const page = text('docs/kubernetes.md')
const blocks = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, block = '']) => block)
const values = blocks.filter((block) => !block.startsWith('apiVersion:'))
const objects = blocks.filter((block) => block.startsWith('apiVersion:'))
const folder = mkdtempSync(join(tmpdir(), 'gmsa-docs-'))
afterAll(() => rmSync(folder, { recursive: true }))

describe('the page on Kubernetes', () => {
  test('has blocks of both kinds', () => {
    expect(values.length).toBeGreaterThan(2)
    expect(objects.length).toBeGreaterThan(0)
  })

  test.each(objects)('shows objects that their schemas know: %#', (block) => {
    expect(parseObjects(block).flatMap(problemsOf)).toEqual([])
  })

  test.skipIf(!needs('helm')).each(values)('shows values that render: %#', (block) => {
    const file = join(folder, 'values.yaml')
    writeFileSync(file, block)
    const { output, said } = template({ args: ['--values', file] })
    expect(said).toBe('')
    expect(parseObjects(output).flatMap(problemsOf)).toEqual([])
  })

  test.skipIf(!needs('helm'))('installs by a command that helm and the chart understand, as does its README', () => {
    const pages = ['docs/kubernetes.md', 'charts/gmsa-account-provider/README.md'].map(text)
    const commands = pages.flatMap((each) => commandsOf(each, ['helm install']))
    expect(commands).toHaveLength(2)
    for (const { words } of commands) {
      // The same without a cluster.
      const [release = '', chart = '', ...args] = words.slice(2)
      const { code, said } = helm('template', release, join(root, chart), '--kube-version', '1.33.0', ...args)
      expect([code, said]).toEqual([0, ''])
    }
  })

  test.skipIf(!needs('helm'))(
    'asks in pods by the program that their image starts, with the file that they mount',
    () => {
      const pods = [
        { file: 'Dockerfile', release: 'keys', values: 'deployment', kind: 'Deployment' },
        { file: 'deploy/windows/Dockerfile.windows', release: 'contoso-ccg', values: 'default', kind: 'DaemonSet' },
      ]
      const asked = commandsOf(page, ['kubectl']).filter(({ words }) => words.includes('exec'))
      expect(asked).toHaveLength(pods.length)
      for (const [index, { file, kind, ...release }] of pods.entries()) {
        const words = asked[index]?.words ?? []
        const entry: string[] = JSON.parse(/^ENTRYPOINT (.*)$/m.exec(text(file))?.[1] ?? '[]')
        const [called] = podsOf(render(release)).filter(({ object }) => object.kind === kind)
        const [, flag, config] = listAt(called?.spec, 'containers', 0, 'args')
        expect(words).toContain(`${kind.toLowerCase()}/${called?.object.metadata.name}`)
        expect(words.slice(words.indexOf('--') + 1)).toEqual([
          ...entry.filter((word) => !word.startsWith('--')),
          'doctor',
          expect.any(String),
          flag,
          config,
        ])
      }
    },
  )

  test('speaks of values that there are', () => {
    const known = valueRows().map(([name = '']) => name.replaceAll('`', ''))
    const named = [...page.matchAll(/`((?:certificates|metrics|networkPolicy|ccg|rbac|autoscaling)\.[\w.]+)`/g)]
    expect(named.length).toBeGreaterThan(3)
    for (const [, name] of named) expect(known).toContain(name)
  })

  test.skipIf(!needs('helm'))('names the Secrets, the folder and the Issuer that a release has', () => {
    const release = render()
    for (const { kind, spec } of release.filter((object) => object.kind === 'Certificate')) {
      expect(page, kind).toContain(String(Object(spec).secretName))
    }
    expect(page).toContain(
      `\`${parse(String(Object(only(release, 'ConfigMap')['data'])['config.yaml'])).ccg.namespace}:`,
    )
    const issuer = only(render({ release: 'keys', values: 'deployment' }), 'Issuer', '-ca').metadata.name
    expect(page).toContain(issuer)
  })
})
