import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { needs } from '../lab/skip.ts'
import { at, configurationOf, listAt, only, parseObjects, podsOf, template } from './helm.ts'
import { idOf, type KubernetesObject, problemsOf } from './kubernetes.ts'

const folder = mkdtempSync(join(tmpdir(), 'gmsa-hostile-'))
afterAll(() => rmSync(folder, { recursive: true }))

function renderValues(values: object, more: { readonly release?: string; readonly namespace?: string } = {}) {
  const file = join(folder, 'values.json')
  writeFileSync(file, JSON.stringify(values))
  return template({ ...more, args: ['--values', file] })
}

/** Where values of any text go, and where they have to come out again. */
const ANYWHERE: readonly {
  readonly values: (text: string) => object
  readonly found: (objects: readonly KubernetesObject[]) => unknown
}[] = [
  {
    values: (text) => ({ podAnnotations: { 'example.com/a': text } }),
    found: (objects) => at(podsOf(objects)[0]?.template, 'metadata', 'annotations', 'example.com/a'),
  },
  {
    values: (text) => ({ podLabels: { 'example.com/l': text } }),
    found: (objects) => at(podsOf(objects)[0]?.template, 'metadata', 'labels', 'example.com/l'),
  },
  {
    values: (text) => ({ extraEnv: [{ name: 'A', value: text }] }),
    found: (objects) =>
      at(
        listAt(podsOf(objects)[0]?.spec, 'containers', 0, 'env').find((each) => at(each, 'name') === 'A'),
        'value',
      ),
  },
  {
    values: (text) => ({ nodeSelector: { pool: text } }),
    found: (objects) => at(podsOf(objects)[0]?.spec, 'nodeSelector', 'pool'),
  },
  {
    values: (text) => ({ tolerations: [{ key: 'k', value: text }] }),
    found: (objects) => at(podsOf(objects)[0]?.spec, 'tolerations', 0, 'value'),
  },
  {
    values: (text) => ({ securityContext: { windowsOptions: { runAsUserName: text } } }),
    found: (objects) => at(podsOf(objects)[0]?.spec, 'securityContext', 'windowsOptions', 'runAsUserName'),
  },
  {
    values: (text) => ({ config: { providers: { local: { type: 'file', directory: `/${text}` } } } }),
    found: (objects) => String(parse(configurationOf(objects)).providers.local.directory).slice(1),
  },
  {
    values: (text) => ({ serviceAccount: { annotations: { 'example.com/a': text } } }),
    found: (objects) => only(objects, 'ServiceAccount', 'provider').metadata.annotations?.['example.com/a'],
  },
  {
    values: (text) => ({ metrics: { serviceMonitor: { enabled: true, labels: { l: text } } } }),
    found: (objects) => only(objects, 'ServiceMonitor').metadata.labels?.['l'],
  },
  {
    values: (text) => ({ certificates: { certManager: { serverCert: { dnsNames: [text] } } } }),
    found: (objects) => listAt(only(objects, 'Certificate', '-server'), 'spec', 'dnsNames').at(-1),
  },
]

/** What ends a value, begins another, is a template, or is no text to YAML. */
const PIECES = ['"', "'", '\n', '\n---\n', '\nkind: Pod\n', ': ', ' #', '{{ .Values.image }}', '{{', '}}', '}, {', 'x']
const HOSTILE = fc.array(fc.constantFrom(...PIECES), { minLength: 1, maxLength: 5 }).map((pieces) => pieces.join(''))
const TYPED = fc.constantFrom(
  'null',
  '~',
  'on',
  '1e3',
  '0x1f',
  '0123',
  '2026-11-23',
  '&a',
  '*a',
  '!!int 1',
  '- a',
  '|',
  '>',
)
const TEXT = fc.oneof(
  HOSTILE,
  TYPED,
  fc.string({ unit: 'binary', maxLength: 20 }).map((text) => text.replace(/\0/g, '')),
)

describe.skipIf(!needs('helm'))('values', () => {
  test('of any text come out as they went in, and add nothing to a release', () => {
    const plain = renderValues({ metrics: { serviceMonitor: { enabled: true } } })
    const ids = parseObjects(plain.output).map(idOf)
    fc.assert(
      fc.property(fc.array(TEXT, { minLength: ANYWHERE.length, maxLength: ANYWHERE.length }), (texts) => {
        const values = Object.assign({}, ...ANYWHERE.map((each, index) => each.values(texts[index] ?? '')))
        const { output, said } = renderValues(values)
        expect(said).toBe('')
        const objects = parseObjects(output)
        expect(objects.map(idOf)).toEqual(ids)
        expect(ANYWHERE.map(({ found }) => found(objects))).toEqual(texts)
      }),
      { numRuns: 12 },
    )
  })

  /** Every value that is a name, with the same one. */
  const named = (name: string) => ({
    nameOverride: name,
    fullnameOverride: name,
    namespaceOverride: name,
    clusterDomain: name,
    priorityClassName: name,
    secretNames: [name],
    serviceAccount: { name },
    ccg: { namespace: name },
    certificates: { caSecretName: name, serverSecretName: name, clientSecretName: name },
    global: { cattle: { systemDefaultRegistry: name }, kubectl: { repository: name, tag: name } },
    image: { repository: name, tag: name },
    domain: {
      dnsName: `${name}.5`,
      netBiosName: name,
      sid: 'S-1-5-21-1-2-3',
      guid: '24481800-8700-4000-9200-799052523480',
    },
    credentialSpecs: { [name]: { gmsa: name, users: [{ namespace: name, serviceAccount: name }] } },
  })

  test.each(['null', 'on', 'y', 'true', '1e3', '0x1f', '0123', '10', '2026-11-23'])(
    'that name things are names, not what YAML takes %s for',
    (name) => {
      const { output, said } = renderValues(named(name), { release: name, namespace: name })
      expect(said).toBe('')
      const objects = parseObjects(output)
      const problems = objects.flatMap((object) => problemsOf(object).map((problem) => `${object.kind}: ${problem}`))
      expect(problems).toEqual([])
      expect(new Set(objects.map(({ metadata }) => metadata.namespace ?? name))).toEqual(new Set([name]))
      expect(only(objects, 'GMSACredentialSpec').metadata.name).toBe(name)
      expect(at(podsOf(objects)[0]?.spec, 'priorityClassName')).toBe(name)
    },
  )

  test.each(['a\nb: c', 'a"', "a'", '{{ a }}', 'a: b', 'a #b', 'a, b', 'a }', '--- a'])(
    'that name things are refused where they are no names: %j',
    (name) => {
      const { code, output, said } = renderValues(named(name))
      expect([code === 0, output]).toEqual([false, ''])
      const places = Object.keys(named('a')).map((place) => place.replace('domain', 'domain/'))
      for (const place of places) expect(said).toContain(`at '/${place}`)
    },
  )
})
