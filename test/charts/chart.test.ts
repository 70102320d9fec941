import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { text } from '../house/source.ts'
import { needs } from '../lab/skip.ts'
import { at, CHART, configurationOf, helm, listAt, podsOf, render, template, VALUE_SETS, valuesFile } from './helm.ts'
import { idOf, problemsOf } from './kubernetes.ts'

const HELM = needs('helm')
const manifest: { version: string } = JSON.parse(text('package.json'))

test('the chart has the version of the program', () => {
  const { version, appVersion } = parse(text('charts/gmsa-account-provider/Chart.yaml'))
  expect([version, appVersion]).toEqual([manifest.version, manifest.version])
})

describe.skipIf(!HELM)('the chart, rendered by helm,', () => {
  test('is tried with many values', () => {
    expect(VALUE_SETS.length).toBeGreaterThanOrEqual(15)
  })

  describe.each(HELM ? VALUE_SETS : ['any values'])('with %s', (values) => {
    const objects = () => render({ values })
    const pods = () => podsOf(objects())
    const containers = () =>
      pods().flatMap(({ template: pod, spec }) =>
        [...listAt(spec, 'initContainers'), ...listAt(spec, 'containers')].map((container) => ({
          pod,
          spec,
          container,
        })),
      )

    test('passes helm lint', () => {
      const { code, output } = helm(
        'lint',
        CHART,
        '--strict',
        '--kube-version',
        '1.33.0',
        '--values',
        valuesFile(values),
      )
      expect(output).toContain('0 chart(s) failed')
      expect(code).toBe(0)
    })

    test('is nothing but objects that their schemas know, field by field', () => {
      expect(objects().length).toBeGreaterThan(4)
      expect(objects().flatMap((object) => problemsOf(object).map((problem) => `${idOf(object)}: ${problem}`))).toEqual(
        [],
      )
    })

    test('gives each object a name of its own', () => {
      expect(new Set(objects().map(idOf)).size).toBe(objects().length)
    })

    test('gives no right that is not bound to names', () => {
      const roles = objects().filter(({ kind }) => kind === 'Role' || kind === 'ClusterRole')
      for (const rule of roles.flatMap((role) => listAt(role, 'rules'))) {
        const named = listAt(rule, 'resourceNames')
        expect(named.length).toBeGreaterThan(0)
        expect(named).not.toContain('*')
        const may = `${listAt(rule, 'resources')}: ${listAt(rule, 'verbs')}`
        expect(['secrets: get', 'daemonsets: get,list,watch', 'gmsacredentialspecs: use']).toContain(may)
      }
    })

    test('gives its pods a token exactly where the configuration reads Secrets with it', () => {
      const providers: object[] = Object.values(parse(configurationOf(objects())).providers)
      const reads = providers.some((each) => at(each, 'type') === 'kubernetes' && at(each, 'kubeconfig') === undefined)
      const served = pods().filter(({ object }) => !object.metadata.name.endsWith('-cleanup'))
      expect(served.length).toBe(2)
      for (const { spec } of served) expect(at(spec, 'automountServiceAccountToken')).toBe(reads)
    })

    test('runs nothing as root, but host processes that say why', () => {
      expect(containers().length).toBeGreaterThan(0)
      for (const { pod, spec, container } of containers()) {
        if (at(spec, 'os', 'name') === 'windows') {
          expect(at(spec, 'securityContext', 'windowsOptions', 'hostProcess')).toBe(true)
          expect(at(pod, 'metadata', 'annotations', 'gmsa-account-provider/why-host-process')).toMatch(/.{40}/)
          // An API server refuses Linux settings in a Windows pod.
          expect(Object.keys(Object(at(spec, 'securityContext')))).toEqual(['windowsOptions'])
          expect(at(spec, 'hostNetwork')).toBe(true)
          expect(at(container, 'securityContext')).toBeUndefined()
        } else {
          expect(at(spec, 'hostNetwork')).toBeUndefined()
          expect(at(spec, 'securityContext')).toMatchObject({
            runAsNonRoot: true,
            runAsUser: 65532,
            seccompProfile: { type: 'RuntimeDefault' },
          })
          expect(at(container, 'securityContext')).toEqual({
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          })
        }
      }
    })

    test('pins every image and bounds the memory of every container', () => {
      for (const { container } of containers()) {
        expect(at(container, 'image')).toMatch(/:v?\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?$/)
        expect(at(container, 'resources', 'limits', 'memory')).toBeDefined()
      }
    })

    test('mounts Secrets for their group alone, and never the key of the CA', () => {
      const chartsOwn = ['ca', 'server', 'client']
      for (const [spec, volume] of pods().flatMap(({ spec: each }) =>
        listAt(each, 'volumes').map((one) => [each, one]),
      )) {
        if (at(volume, 'secret') === undefined) continue
        if (at(spec, 'os', 'name') === 'linux') expect(at(spec, 'securityContext', 'fsGroup')).toBe(65532)
        expect(at(volume, 'secret', 'defaultMode')).toBe(0o440)
        if (at(volume, 'name') === 'ca')
          expect(at(volume, 'secret', 'items')).toEqual([{ key: 'ca.crt', path: 'ca.crt' }])
        else if (chartsOwn.includes(String(at(volume, 'name')))) expect(at(volume, 'secret', 'items')).toBeUndefined()
      }
    })

    test('sees no variables of other services, and stops with more time than the service takes', () => {
      for (const { object, spec } of pods()) {
        expect(at(spec, 'enableServiceLinks')).toBe(false)
        if (object.kind === 'Job' || object.metadata.name.endsWith('-cleanup')) continue
        const { drainDelay = '5s', grace = '25s' } = parse(configurationOf(objects())).shutdown ?? {}
        const seconds = Number.parseInt(drainDelay, 10) + Number.parseInt(grace, 10)
        expect(at(spec, 'terminationGracePeriodSeconds')).toBeGreaterThan(seconds)
      }
    })

    test('names no port that the container does not have', () => {
      const [container] = listAt(pods().find(({ object }) => object.kind !== 'Pod')?.spec, 'containers')
      const ports = listAt(container, 'ports').map((port) => at(port, 'name'))
      const probes = ['startupProbe', 'livenessProbe', 'readinessProbe'].map((probe) =>
        at(container, probe, 'httpGet', 'port'),
      )
      const services = objects()
        .filter(({ kind }) => kind === 'Service')
        .flatMap((service) => listAt(service, 'spec', 'ports'))
      const rules = objects()
        .filter(({ kind }) => kind === 'NetworkPolicy')
        .flatMap((policy) => listAt(policy, 'spec', 'ingress'))
      const allowed = rules.flatMap((rule) => listAt(rule, 'ports').map((port) => at(port, 'port')))
      for (const name of [...probes, ...services.map((port) => at(port, 'targetPort')), ...allowed])
        expect(ports).toContain(name)
    })

    test('starts its pods anew when the configuration changes', () => {
      const checksum = (args: readonly string[]) =>
        at(podsOf(render({ values, args }))[0]?.template, 'metadata', 'annotations', 'checksum/config')
      expect(checksum(['--set', 'config.log.level=trace'])).not.toBe(checksum([]))
    })
  })
})

describe.skipIf(!HELM)('values that can be no good', () => {
  test.each([
    ['mode=mac', /mode/],
    ['imag.tag=1', /additional properties 'imag' not allowed/],
    ['config.listen.port=1', /additional properties 'listen' not allowed/],
    ['config.log.level=loud', /config\/log\/level/],
    ['config.accounts.web01.samAccountName=web01', /config\/accounts\/web01/],
    ['config.cache.maxAge=soon', /config\/cache\/maxAge/],
    ['domain.sid=S-1-5-21-1-2-3-1105', /domain\/sid/],
    ['domain.guid={244818ae-87ac-4fcd-92ec-e79e5252348a}', /domain\/guid/],
    ['credentialSpecs.webapp01.gmsa=webapp01$', /credentialSpecs\/webapp01/],
    ['credentialSpecs.webapp01.gmsa=webapp01', /domain.dnsName is needed/],
    ['securityContext.windowsOptions.hostProcess=false', /hostProcess/],
    ['secretNames={*}', /secretNames/],
    // A form of Rancher's user interface asks for it. It does not belong into values, and is not quoted.
    ['secret.password=Kanari', /^(?!.*Kanari).*additional properties 'secret' not allowed/s],
  ])('%s is refused', (setting, reason) => {
    const { code, said } = template({ args: ['--set', setting.replace(/^(domain.guid=){(.*)}$/, '$1\\{$2\\}')] })
    expect(said).toMatch(reason)
    expect(code).not.toBe(0)
  })

  test.each([
    ['wildcard', ['--set', 'rbac.create=true'], /grants to nobody/],
    ['windows-credential-specs', ['--set', 'mode=linux'], /only windows mode/],
    ['windows-credential-specs', ['--set', 'secretNames={a,b}'], /there are several accounts/],
    ['windows-credential-specs', ['--set', 'credentialSpecs.reports.account=typo'], /no such account/],
    ['deployment', ['--set', 'serviceAccount.create=false'], /serviceAccount.name is needed/],
  ])('%s with %s is refused', (values, args, reason) => {
    expect(template({ values, args }).said).toMatch(reason)
  })
})
