import { describe, expect, test } from 'vitest'
import { text } from '../house/source.ts'
import { needs } from '../lab/skip.ts'
import { at, listAt, only, podsOf, render } from './helm.ts'

const HELM = needs('helm')
const manifest: { version: string } = JSON.parse(text('package.json'))

describe.skipIf(!HELM)("Rancher's values", () => {
  test('mean our image where they name theirs, and their registry', () => {
    const imageIn = (values: string) => at(podsOf(render({ values }))[0]?.spec, 'containers', 0, 'image')
    expect(imageIn('rancher-defaults')).toBe(`gmsa-account-provider:${manifest.version}`)
    expect(imageIn('rancher-placement')).toBe(`registry.example.com/gmsa-account-provider:${manifest.version}`)
  })

  test('name the Secrets of certificates, also where nobody makes them', () => {
    for (const values of ['rancher-defaults', 'rancher-own-certificates']) {
      const volumes = listAt(podsOf(render({ values }))[0]?.spec, 'volumes')
      const secrets = volumes.flatMap((volume) => at(volume, 'secret', 'secretName') ?? [])
      expect(secrets).toEqual(['ca-cert', 'ccg-dll-cert', 'account-provider-cert'])
    }
    expect(
      render({ values: 'rancher-own-certificates' }).some(({ apiVersion }) => apiVersion.startsWith('cert-manager')),
    ).toBe(false)
  })

  test('set the life of certificates, not what these may be used for', () => {
    const objects = render({ values: 'rancher-defaults' })
    const [server, client] = ['-server', '-client'].map((name) => at(only(objects, 'Certificate', name), 'spec'))
    expect(server).toMatchObject({
      duration: '87600h0m0s',
      privateKey: { algorithm: 'RSA', size: 4096 },
      usages: ['digital signature', 'server auth'],
      dnsNames: ['localhost'],
    })
    expect(client).toMatchObject({ duration: '87600h0m0s', usages: ['digital signature', 'client auth'] })
    expect(at(client, 'dnsNames')).toBeUndefined()
  })

  test('place the pods', () => {
    const spec = podsOf(render({ values: 'rancher-placement' }))[0]?.spec
    expect(spec).toMatchObject({
      nodeSelector: { 'kubernetes.io/os': 'windows', pool: 'windows' },
      imagePullSecrets: [{ name: 'registry' }],
      tolerations: [{ key: 'os' }],
    })
    expect(at(spec, 'affinity', 'nodeAffinity')).toBeDefined()
  })
})
