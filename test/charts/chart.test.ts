import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { text } from '../house/source.ts'
import { needs } from '../lab/skip.ts'
import {
  at,
  CHART,
  configurationOf,
  helm,
  listAt,
  only,
  podsOf,
  render,
  template,
  VALUE_SETS,
  valuesFile,
} from './helm.ts'
import { type KubernetesObject, problemsOf } from './kubernetes.ts'

const HELM = needs('helm')
const manifest: { version: string } = JSON.parse(text('package.json'))
const idOf = ({ kind, metadata }: KubernetesObject) => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`

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
          expect(at(spec, 'securityContext')).toMatchObject({ runAsNonRoot: true, runAsUser: 65532 })
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
  ])('%s with %s is refused', (values, args, reason) => {
    expect(template({ values, args }).said).toMatch(reason)
  })
})

describe.skipIf(!HELM)('what an operator relies on', () => {
  const pluginInput = (objects: readonly KubernetesObject[]) =>
    objects
      .filter(({ kind }) => kind === 'GMSACredentialSpec')
      .map((object) => at(object, 'credspec', 'ActiveDirectoryConfig', 'HostAccountConfig', 'PluginInput'))

  test('the Role names the Secret of the release and no other', () => {
    expect(listAt(only(render(), 'Role', 'provider'), 'rules')).toEqual([
      { apiGroups: [''], resources: ['secrets'], resourceNames: ['contoso-ccg-creds'], verbs: ['get'] },
    ])
  })

  test('a provider that logs on with a Secret may read it under its own name', () => {
    const [rule] = listAt(only(render({ values: 'windows-active-directory' }), 'Role', 'provider'), 'rules')
    expect(at(rule, 'resourceNames')).toEqual(['contoso-bind', 'contoso-creds'])
    const [own] = listAt(only(render({ values: 'deployment-clients' }), 'Role'), 'rules')
    expect(at(own, 'resourceNames')).toEqual(['svc-bind'])
  })

  test('each namespace that is read from gets a Role of its own, once for each Secret', () => {
    const roles = render({ values: 'other-namespaces' }).filter(({ kind }) => kind === 'Role')
    expect(roles.map((role) => [role.metadata.namespace, at(role, 'rules', 0, 'resourceNames')])).toEqual([
      ['contoso-ad', ['own']],
      ['eu', ['ccg-eu']],
      ['us', ['ccg']],
    ])
  })

  test('credential specs lead to the host files of the release, with the domain written as CCG wants it', () => {
    const objects = render({ values: 'windows-credential-specs' })
    expect(pluginInput(objects)).toEqual([
      'contoso-ad-contoso-ccg:contoso-ccg-creds',
      'contoso-ad-contoso-ccg:contoso-ccg-creds',
    ])
    expect(parse(configurationOf(objects)).ccg.namespace).toBe('contoso-ad-contoso-ccg')
    expect(at(only(objects, 'GMSACredentialSpec', 'reports'), 'credspec', 'ActiveDirectoryConfig')).toEqual({
      GroupManagedServiceAccounts: [
        { Name: 'rpt01', Scope: 'ad.contoso.com' },
        { Name: 'rpt01', Scope: 'CONTOSO' },
      ],
      HostAccountConfig: {
        PortableCcgVersion: '1',
        PluginGUID: '{e4781092-f116-4b79-b55e-28eb6a224e26}',
        PluginInput: 'contoso-ad-contoso-ccg:contoso-ccg-creds',
      },
    })
  })

  test('workloads may use a spec where a binding in their namespace says so', () => {
    const objects = render({ values: 'windows-credential-specs' })
    expect(at(only(objects, 'ClusterRole', 'webapp01'), 'rules', 0)).toMatchObject({
      verbs: ['use'],
      resourceNames: ['webapp01'],
    })
    const bindings = objects.filter(
      ({ kind, metadata }) => kind === 'RoleBinding' && metadata.name.startsWith('gmsa-use-'),
    )
    expect(bindings.map((binding) => at(binding, 'subjects', 0))).toEqual([
      { kind: 'ServiceAccount', name: 'web', namespace: 'web' },
      { kind: 'ServiceAccount', name: 'default', namespace: 'shop' },
    ])
    for (const binding of bindings) expect(binding.metadata.namespace).toBe(at(binding, 'subjects', 0, 'namespace'))
  })

  test('the network lets in clients and the scraper, and nothing else', () => {
    const policy = only(render({ values: 'monitoring' }), 'NetworkPolicy')
    expect(at(policy, 'spec', 'policyTypes')).toEqual(['Ingress', 'Egress'])
    expect(at(policy, 'spec', 'ingress')).toEqual([
      { ports: [{ port: 'data' }], from: [{ namespaceSelector: {} }] },
      {
        ports: [{ port: 'admin' }],
        from: [
          {
            namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'observability' } },
            podSelector: { matchLabels: { 'app.kubernetes.io/name': 'prometheus' } },
          },
        ],
      },
    ])
    const egress = listAt(only(render({ values: 'deployment-clients' }), 'NetworkPolicy'), 'spec', 'egress')
    const out = egress.flatMap((rule) =>
      listAt(rule, 'ports').map((port) => `${at(port, 'protocol')} ${at(port, 'port')}`),
    )
    expect(out).toEqual(['UDP 53', 'TCP 53', 'TCP 443', 'TCP 6443', 'TCP 636'])
    expect(render().some(({ kind }) => kind === 'NetworkPolicy')).toBe(false)
  })

  test('what selects the pods of the service selects nothing else', () => {
    const objects = render({ values: 'monitoring' })
    const selectors = ['Deployment', 'PodDisruptionBudget'].map((kind) =>
      at(only(objects, kind), 'spec', 'selector', 'matchLabels'),
    )
    const services = objects.filter(({ kind }) => kind === 'Service').map((service) => at(service, 'spec', 'selector'))
    const policy = at(only(objects, 'NetworkPolicy'), 'spec', 'podSelector', 'matchLabels')
    const all = [...selectors, ...services, policy]
    expect(all).toHaveLength(5)
    for (const selector of all) {
      const selected = podsOf(objects).filter(({ template: pod }) =>
        Object.entries(Object(selector)).every(([name, value]) => at(pod, 'metadata', 'labels', name) === value),
      )
      expect(selected.map(({ object }) => object.kind)).toEqual(['Deployment'])
    }
  })

  test('the operator of Prometheus finds the Service, and the job is named as the alerts name it', () => {
    const objects = render({ values: 'monitoring' })
    const monitor = only(objects, 'ServiceMonitor')
    const service = only(objects, 'Service', '-metrics')
    const wanted = Object(at(monitor, 'spec', 'selector', 'matchLabels'))
    expect(service.metadata.labels).toMatchObject(wanted)
    expect(service.metadata.labels?.[String(at(monitor, 'spec', 'jobLabel'))]).toBe('gmsa-account-provider')
    expect(at(monitor, 'spec', 'endpoints', 0, 'port')).toBe(at(service, 'spec', 'ports', 0, 'name'))
    // Each pod is scraped by itself.
    expect(at(service, 'spec', 'clusterIP')).toBe('None')
    expect(monitor.metadata.labels).toMatchObject({ release: 'prometheus' })
    expect(at(only(objects, 'PrometheusRule'), 'spec')).toEqual(
      parse(text('charts/gmsa-account-provider/files/alerts.yaml')),
    )
    const dashboard = String(at(only(objects, 'ConfigMap', '-dashboard'), 'data', 'gmsa-account-provider.json'))
    expect(JSON.parse(dashboard)).toEqual(JSON.parse(text('charts/gmsa-account-provider/files/dashboard.json')))
  })

  test('an uninstall removes the host files on every Windows node, and waits for that', () => {
    const hooks = render({ values: 'rancher-placement' }).filter(
      ({ metadata }) => metadata.annotations?.['helm.sh/hook'] === 'post-delete',
    )
    const cleanup = only(hooks, 'DaemonSet')
    const job = only(hooks, 'Job')
    const { name, namespace } = cleanup.metadata
    expect(namespace).toBe('cattle-windows-gmsa-system')
    expect(at(cleanup, 'spec', 'template', 'spec', 'initContainers', 1, 'args')).toEqual([
      'cleanup',
      '--namespace',
      'cattle-windows-gmsa-system-contoso-ccg',
    ])
    expect(at(cleanup, 'spec', 'template', 'spec', 'tolerations')).toEqual([
      { key: 'os', value: 'windows', effect: 'NoSchedule' },
    ])
    expect(at(job, 'spec', 'template', 'spec', 'containers', 0)).toMatchObject({
      image: 'registry.example.com/rancher/kubectl:v1.30.0',
      args: ['rollout', 'status', `daemonset/${name}`, `--namespace=${namespace}`, '--timeout=540s'],
    })
    expect(at(only(hooks, 'Role'), 'rules', 0, 'resourceNames')).toEqual([name])
    // Helm creates hooks by weight, and waits for Jobs alone: the last must be the Job.
    const weightOf = ({ metadata }: KubernetesObject) => Number(metadata.annotations?.['helm.sh/hook-weight'])
    for (const other of hooks) if (other !== job) expect(weightOf(other)).toBeLessThan(weightOf(job))
    for (const { metadata } of hooks)
      expect(metadata.annotations?.['helm.sh/hook-delete-policy']).toContain('hook-succeeded')
    expect(
      render({ values: 'deployment' }).some(({ metadata }) => metadata.annotations?.['helm.sh/hook'] === 'post-delete'),
    ).toBe(false)
  })

  test('helm test runs check with the configuration, the files and the rights of the service', () => {
    const objects = render({ values: 'linux' })
    const [service, check] = ['DaemonSet', 'Pod'].map(
      (kind) => podsOf(objects).find(({ object }) => object.kind === kind)?.spec,
    )
    expect(only(objects, 'Pod').metadata.annotations).toMatchObject({ 'helm.sh/hook': 'test' })
    const [first, ...rest] = listAt(check, 'containers', 0, 'args')
    expect(first).toBe('check')
    expect(['run', ...rest]).toEqual(at(service, 'containers', 0, 'args'))
    for (const path of [
      ['serviceAccountName'],
      ['volumes'],
      ['containers', 0, 'volumeMounts'],
      ['containers', 0, 'env'],
    ]) {
      expect(at(check, ...path)).toEqual(at(service, ...path))
    }
  })

  test('a deployment scales, spreads and survives a drain', () => {
    const scaled = render({ values: 'deployment-autoscaling' })
    expect(at(only(scaled, 'Deployment'), 'spec', 'replicas')).toBeUndefined()
    expect(at(only(scaled, 'HorizontalPodAutoscaler'), 'spec')).toMatchObject({
      minReplicas: 3,
      maxReplicas: 9,
      scaleTargetRef: { name: 'gmsa' },
    })
    expect(only(scaled, 'PodDisruptionBudget')).toBeDefined()
    const spread = listAt(
      only(render({ values: 'deployment' }), 'Deployment'),
      'spec',
      'template',
      'spec',
      'topologySpreadConstraints',
    )
    expect(spread.map((each) => at(each, 'topologyKey'))).toEqual([
      'kubernetes.io/hostname',
      'topology.kubernetes.io/zone',
    ])
    expect(render({ values: 'deployment-single' }).some(({ kind }) => kind === 'PodDisruptionBudget')).toBe(false)
  })

  test('what only the chart can know is added to the configuration, and takes nothing away', () => {
    const configOf = (values: string) => parse(configurationOf(render({ values })))
    expect(configOf('windows-several-secrets')).toMatchObject({
      listen: { port: 28443 },
      admin: { port: 29464 },
      ccg: { namespace: 'cattle-windows-gmsa-system' },
      accounts: { 'ccg-eu': { provider: 'cluster' }, 'ccg-us': { provider: 'cluster' } },
      log: { level: 'debug' },
    })
    expect(configOf('windows-own-certificates').tls).toMatchObject({
      certificate: '/etc/gmsa-account-provider/tls/server/tls.crt',
      crl: '/etc/gmsa-account-provider/crl/ca.crl',
    })
    expect(configOf('deployment-clients').admin).toEqual({ port: 9464, statusPage: false })
    expect(configOf('linux-files').providers).toEqual({
      mounted: { type: 'file', directory: '/etc/gmsa-account-provider/secrets' },
    })
  })

  test('a certificate has the names by which clients reach the service', () => {
    const namesIn = (values: string) => at(only(render({ values }), 'Certificate', '-server'), 'spec', 'dnsNames')
    expect(namesIn('default')).toEqual(['localhost'])
    const service = 'gmsa.contoso-ad'
    const names = ['localhost', 'gmsa', service, `${service}.svc`, `${service}.svc.k8s.example.com`]
    expect(namesIn('deployment-autoscaling')).toEqual(names)
    expect(namesIn('deployment-clients')).toContain('gmsa.contoso.com')
  })

  test('nodes are made to trust the CA of their release, and to forget it after', () => {
    const objects = render()
    const [trust] = listAt(podsOf(objects)[0]?.spec, 'initContainers')
    const [forget] = listAt(only(objects, 'DaemonSet', '-cleanup'), 'spec', 'template', 'spec', 'initContainers')
    const [mount] = listAt(trust, 'volumeMounts')
    for (const container of [trust, forget]) {
      expect(at(container, 'command', 0)).toBe('powershell.exe')
      expect(at(container, 'command', 4)).toContain("$folder = '/var/lib/rancher/gmsa/contoso-ad-contoso-ccg'\n")
      // Kubernetes would take it for a variable of its own.
      expect(at(container, 'command', 4)).not.toMatch(/\$\(/)
    }
    expect(at(trust, 'command', 4)).toContain(`X509Certificate2 '${at(mount, 'mountPath')}/ca.crt'`)
    expect(at(forget, 'command', 4)).toContain('$ca = $null')
    expect(at(podsOf(render({ values: 'linux' }))[0]?.spec, 'initContainers')).toBeUndefined()
  })

  test('whatever a cluster asks for besides is handed on', () => {
    const objects = render({ values: 'linux-files' })
    const { template: pod, spec } = podsOf(objects)[0] ?? {}
    expect(at(pod, 'metadata')).toMatchObject({
      annotations: { 'example.com/team': 'identity' },
      labels: { 'example.com/tier': 'infrastructure' },
    })
    expect(spec).toMatchObject({ priorityClassName: 'system-node-critical' })
    expect(at(spec, 'containers', 0, 'env')).toContainEqual({ name: 'TZ', value: 'UTC' })
    const pinned = render({ values: 'pinned' })
    const image = at(podsOf(pinned)[0]?.spec, 'containers', 0)
    expect(at(image, 'image')).toMatch(
      /^registry\.example\.com\/gmsa-account-provider:0\.1\.0@sha256:(0123456789abcdef){4}$/,
    )
    expect(at(image, 'imagePullPolicy')).toBe('Always')
    expect(only(pinned, 'ServiceAccount').metadata).toMatchObject({
      name: 'gmsa',
      annotations: { 'azure.workload.identity/client-id': '00000000-0000-0000-0000-000000000000' },
    })
    const autoscaled = podsOf(render({ values: 'deployment-autoscaling' }))[0]?.spec
    expect(at(autoscaled, 'containers', 0, 'resources', 'limits')).toEqual({ memory: '512Mi' })
  })

  test("what is somebody else's is not made", () => {
    const objects = render({ values: 'bare' })
    const kinds = new Set(objects.map(({ kind }) => kind))
    for (const kind of ['Role', 'RoleBinding', 'ServiceAccount', 'NetworkPolicy', 'PodDisruptionBudget']) {
      expect(kinds).not.toContain(kind)
    }
    expect(at(podsOf(objects)[0]?.spec, 'serviceAccountName')).toBe('gmsa')
  })

  test('pods of each Linux node ask the service on their own node', () => {
    expect(at(only(render({ values: 'linux' }), 'Service'), 'spec', 'internalTrafficPolicy')).toBe('Local')
    expect(at(only(render({ values: 'deployment' }), 'Service'), 'spec', 'internalTrafficPolicy')).toBeUndefined()
  })
})

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
