import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { needs } from '../lab/skip.ts'
import { at, configurationOf, listAt, podsOf, render } from './helm.ts'
import { idOf, type KubernetesObject } from './kubernetes.ts'

const HELM = needs('helm')

describe.skipIf(!HELM)('releases', () => {
  const long = 'n'.repeat(63)
  const pairs = [
    { one: { release: 'contoso-ccg' }, other: { release: 'fabrikam-ccg' } },
    { one: { release: 'ab' }, other: { release: 'ba' } },
    {
      one: { release: `${'r'.repeat(52)}1`, namespace: long },
      other: { release: `${'r'.repeat(52)}2`, namespace: long },
    },
  ]

  test.each(pairs)(
    '$one.release and $other.release share a namespace and a node, and nothing else',
    ({ one, other }) => {
      const values = 'windows-credential-specs'
      const settings = [
        '--set',
        'metrics.serviceMonitor.enabled=true,metrics.dashboard.enabled=true,metrics.prometheusRule.enabled=true',
      ]
      const first = render({ ...one, values, args: settings })
      // A credential spec belongs to the cluster and is named by its operator.
      const second = render({ ...other, args: settings })
      expect(second.map(idOf).filter((id) => first.map(idOf).includes(id))).toEqual([])
      const hostOf = (objects: readonly KubernetesObject[]) => {
        const { ccg, listen, admin } = parse(configurationOf(objects))
        expect(listen.port).toBe(0)
        return { folder: `${ccg.directory}/${ccg.namespace}`, port: admin.port }
      }
      expect(hostOf(first).folder).not.toBe(hostOf(second).folder)
      expect(hostOf(first).port).not.toBe(hostOf(second).port)
      for (const objects of [first, second]) {
        for (const { spec } of podsOf(objects)) {
          expect(listAt(spec, 'volumes').filter((volume) => at(volume, 'hostPath') !== undefined)).toEqual([])
        }
        for (const { metadata } of objects) expect(metadata.name.length).toBeLessThanOrEqual(63)
        expect(hostOf(objects).folder.split('/').at(-1)?.length).toBeLessThanOrEqual(63)
      }
    },
  )

  test('of one name in two namespaces share no folder and no port of the node', () => {
    const [one, other] = ['a', 'b'].map((namespace) => parse(configurationOf(render({ namespace }))))
    expect(one.ccg.namespace).not.toBe(other.ccg.namespace)
    expect(one.admin.port).not.toBe(other.admin.port)
  })
})
