import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { text } from '../house/source.ts'
import { needs } from '../lab/skip.ts'
import { at, configurationOf, listAt, only, podsOf, render } from './helm.ts'
import type { KubernetesObject } from './kubernetes.ts'

const HELM = needs('helm')

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
    expect(render().some(({ kind }) => kind === 'NetworkPolicy')).toBe(false)
  })

  test('the network lets out to the stores: by the values, and by what the configuration says of them', () => {
    const outOf = (values: string, settings = '') => {
      const args = settings ? ['--set', settings] : []
      const rules = listAt(only(render({ values, args }), 'NetworkPolicy'), 'spec', 'egress')
      return rules.flatMap((rule) => listAt(rule, 'ports').map((port) => `${at(port, 'protocol')} ${at(port, 'port')}`))
    }
    const always = ['UDP 53', 'TCP 53', 'TCP 443', 'TCP 6443']
    expect(outOf('deployment')).toEqual(always)
    expect(outOf('deployment-clients')).toEqual([...always, 'TCP 636'])
    expect(outOf('deployment-clients', 'config.providers.ad.transport=starttls')).toEqual([...always, 'TCP 389'])
    expect(outOf('deployment-clients', 'config.providers.ad.port=1636')).toEqual([...always, 'TCP 1636'])
    expect(outOf('deployment-clients', 'networkPolicy.storePorts={636}')).toEqual([...always.slice(0, 2), 'TCP 636'])
    const bao = (address: string) =>
      `config.providers.bao.type=vault,config.providers.bao.address=${address},config.providers.bao.mount=kv,config.providers.bao.auth.method=kubernetes,config.providers.bao.auth.role=gmsa`
    expect(outOf('deployment', bao('https://bao.example.com:8200/prefix'))).toEqual([...always, 'TCP 8200'])
    expect(outOf('deployment', bao('https://[2001:db8::8]:8200'))).toEqual([...always, 'TCP 8200'])
    expect(outOf('deployment', bao('https://bao.example.com'))).toEqual(always)
  })

  test('what selects the pods of the service selects nothing else, but for the policy, which holds the test too', () => {
    const objects = render({ values: 'monitoring' })
    const selectors = ['Deployment', 'PodDisruptionBudget'].map((kind) =>
      at(only(objects, kind), 'spec', 'selector', 'matchLabels'),
    )
    const services = objects.filter(({ kind }) => kind === 'Service').map((service) => at(service, 'spec', 'selector'))
    const all = [...selectors, ...services]
    expect(all).toHaveLength(4)
    const selectedBy = (selector: unknown) =>
      podsOf(objects)
        .filter(({ template: pod }) =>
          Object.entries(Object(selector)).every(([name, value]) => at(pod, 'metadata', 'labels', name) === value),
        )
        .map(({ object }) => object.kind)
    for (const selector of all) expect(selectedBy(selector)).toEqual(['Deployment'])
    const held = selectedBy(at(only(objects, 'NetworkPolicy'), 'spec', 'podSelector', 'matchLabels'))
    expect(held.toSorted()).toEqual(['Deployment', 'Pod'])
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
    // With hook-succeeded helm would delete it before --logs reads its log, and end with an error.
    expect(only(objects, 'Pod').metadata.annotations).toEqual({
      'helm.sh/hook': 'test',
      'helm.sh/hook-delete-policy': 'before-hook-creation',
    })
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
