/**
 * The values of the Helm chart: one table from which values.yaml, values.schema.json and the chart's README are
 * generated. An option without a default is accepted and does not stand in values.yaml.
 */
import { Document, type Pair, type Scalar, visit } from 'yaml'
import { asRecord } from '../src/cli/config-document.ts'
import { configSchema } from '../src/cli/config-schema.ts'
import { NAMESPACE_PATTERN } from '../src/gmsa/account-name.ts'
import { PROVIDER_TYPES } from '../src/providers/index.ts'

type Schema = Readonly<Record<string, unknown>>

const group = (description: string, properties: Record<string, Schema>): Schema => ({
  type: 'object',
  description,
  properties,
  additionalProperties: false,
})
const text = (description: string, value?: string, more: Schema = {}): Schema => ({
  type: 'string',
  description,
  ...more,
  ...(value !== undefined && { default: value }),
})
const flag = (description: string, value: boolean): Schema => ({ type: 'boolean', description, default: value })
const count = (description: string, value: number | null, minimum = 1, maximum = 100_000): Schema => ({
  ...(value === null ? { type: ['integer', 'null'] } : { type: 'integer' }),
  description,
  minimum,
  maximum,
  default: value,
})
const list = (description: string, value: unknown[] = [], items: Schema = {}): Schema => ({
  type: 'array',
  description,
  items,
  default: value,
})
/** An object that Kubernetes, not this chart, knows the fields of. */
const foreign = (description: string, value: object = {}): Schema => ({ type: 'object', description, default: value })

/** What Rancher's chart has and this one accepts without a use for it. */
const unused = (schema: Schema): Schema => ({ ...schema, description: 'Accepted from values of Rancher, not used.' })

/** Names in Kubernetes, and what images and clusters are called: nothing that could end a value in YAML. */
const NAME = '^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$'
const NAME_OR_NONE = `^$|${NAME}`
const DNS = '^[A-Za-z0-9-]+([.][A-Za-z0-9-]+)+$'
const IMAGE_NAME = '^$|^[A-Za-z0-9]([A-Za-z0-9._/:-]*[A-Za-z0-9])?$'
const TAG = '^$|^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$'

const name = (description: string, value?: string): Schema => text(description, value, { pattern: NAME_OR_NONE })
const image = (description: string, value: string): Schema => text(description, value, { pattern: IMAGE_NAME })
const pullPolicy = (description: string, value?: string): Schema =>
  text(description, value, { enum: ['Always', 'IfNotPresent', 'Never'] })
const port = (description: string): Schema => count(description, null, 0, 65_535)
const duration = (description: string, value: string): Schema =>
  text(description, value, { pattern: '^([0-9]+[hms])+$' })
const secretName = (what: string, suffix: string): Schema =>
  name(`Secret of ${what}. Empty: the release's name for it, ending in ${suffix}.`, '')

function privateKey(algorithm: string, size: number, rotationPolicy: string): Schema {
  return group('The private key.', {
    algorithm: text('RSA or ECDSA.', algorithm, { enum: ['RSA', 'ECDSA'] }),
    size: count('Bits.', size, 256, 8192),
    encoding: text('PKCS1 or PKCS8.', 'PKCS8', { enum: ['PKCS1', 'PKCS8'] }),
    rotationPolicy: text('Always: a new key with each certificate.', rotationPolicy, { enum: ['Always', 'Never'] }),
  })
}

/** The configuration file, without what the chart writes itself. */
function configuration(): Schema {
  const { properties } = configSchema(PROVIDER_TYPES)
  const { listen: _, ccg: __, admin, tls, ...sections } = properties
  const only = (section: unknown, ...names: string[]): Schema => ({
    type: 'object',
    description: `Of this section the chart writes all but ${names.join(' and ')}.`,
    properties: Object.fromEntries(names.map((name) => [name, asRecord(asRecord(section)['properties'])[name]])),
    additionalProperties: false,
  })
  return {
    type: 'object',
    description:
      'Sections of the configuration file, as docs/configuration.md describes them. The chart adds listen, ccg, and the rest of admin and tls.',
    properties: { ...sections, admin: only(admin, 'statusPage'), tls: only(tls, 'crl', 'crlExpired') },
    additionalProperties: false,
    default: {},
  }
}

const IMAGE = group('The image of this service. There is no public one: build it from the Dockerfile.', {
  repository: image(
    "Where it is. Rancher's own image is taken for this one: it can't run this chart.",
    'gmsa-account-provider',
  ),
  tag: text("Empty: the chart's appVersion.", '', { pattern: TAG }),
  digest: text('sha256:…; pins the image whatever its tag.', '', { pattern: '^(sha256:[0-9a-f]{64})?$' }),
  pullPolicy: pullPolicy('When it is pulled.', 'IfNotPresent'),
  imagePullPolicy: pullPolicy("Rancher's name of pullPolicy; stands above it."),
})

const CERTIFICATES = group('Certificates of the service.', {
  certManager: group('Certificates made by cert-manager, 1.17 or newer.', {
    enabled: flag('false: bring your own Secrets under the names below.', true),
    version: unused(text('')),
    nameConstraints: flag('Windows mode: the CA, which nodes are made to trust, can sign for localhost alone.', true),
    caCert: group('The CA of this release.', {
      duration: duration('How long it is valid.', '87600h'),
      renewBefore: duration('When it is renewed.', '720h'),
      privateKey: privateKey('ECDSA', 256, 'Never'),
    }),
    serverCert: group("The service's certificate: server authentication only.", {
      duration: duration('How long it is valid.', '2160h'),
      renewBefore: duration('When it is renewed.', '720h'),
      privateKey: privateKey('ECDSA', 256, 'Always'),
      dnsNames: list('Names besides localhost and those of the Service. A URL is passed over.', [], { type: 'string' }),
      usages: unused({ type: 'array' }),
    }),
    clientCert: group("The CCG plug-in's certificate, Windows mode only: client authentication only.", {
      duration: duration('How long it is valid.', '2160h'),
      renewBefore: duration('When it is renewed.', '720h'),
      privateKey: privateKey('RSA', 2048, 'Always'),
      dnsNames: unused({ type: 'array' }),
      usages: unused({ type: 'array' }),
    }),
  }),
  allowUnconstrainedCa: flag(
    'Windows mode: let nodes trust a CA without critical name constraints. Whoever has its key can then pass for every server to every program of the node.',
    false,
  ),
  caSecretName: secretName('the CA that clients are verified against: ca.crt', '-ca'),
  serverSecretName: secretName("the service's certificate: tls.crt, tls.key", '-server'),
  clientSecretName: secretName("the plug-in's certificate: tls.crt, tls.key", '-client'),
})

const DOMAIN: Schema = {
  ...group('The domain of the credential specs: what Get-ADDomain says of it.', {
    dnsName: text('DNS name.', undefined, { pattern: DNS }),
    dnsTreeName: text('DNS name of the forest root. Left out: dnsName.', undefined, { pattern: DNS }),
    netBiosName: text('NetBIOS name.', undefined, { pattern: '^[A-Za-z0-9_-]{1,15}$' }),
    sid: text('SID of the domain, not of a gMSA.', undefined, { pattern: '^S-1-5-21-[0-9]+-[0-9]+-[0-9]+$' }),
    guid: text('objectGUID of the domain, without braces.', undefined, {
      pattern: '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$',
    }),
  }),
  default: {},
}

const CREDENTIAL_SPECS: Schema = {
  type: 'object',
  description: 'Windows mode: GMSACredentialSpecs, by name; each needs `domain`.',
  propertyNames: { pattern: NAME },
  additionalProperties: group('', {
    gmsa: text("The gMSA's sAMAccountName without $. Left out: the name of the entry.", undefined, {
      pattern: '^[^\\s$@/\\\\]{1,15}$',
    }),
    account: text('The account of this service that may read the gMSA. Left out: the only one there is.'),
    users: list('Service accounts that may use it.', [], {
      ...group('', {
        namespace: text('', undefined, { pattern: NAME }),
        serviceAccount: text('', undefined, { pattern: NAME }),
      }),
      required: ['namespace', 'serviceAccount'],
    }),
  }),
  default: {},
}

const METRICS = group('For the Prometheus operator and Grafana.', {
  serviceMonitor: group('A ServiceMonitor and the Service it needs.', {
    enabled: flag('Make it.', false),
    interval: duration('How often the metrics are read.', '30s'),
    labels: foreign('Labels by which your Prometheus finds it.'),
  }),
  prometheusRule: group('The alerts. They cover all releases: one of them is enough.', {
    enabled: flag('Make it.', false),
    labels: foreign('Labels by which your Prometheus finds it.'),
  }),
  dashboard: group('The Grafana dashboard in a ConfigMap. It covers all releases: one of them is enough.', {
    enabled: flag('Make it.', false),
    labels: foreign('Labels by which the sidecar of Grafana finds it.', { grafana_dashboard: '1' }),
  }),
})

const NETWORK_POLICY = group(
  "Linux and deployment mode: nothing else reaches the pods. It can't hold host-process pods.",
  {
    enabled: flag('Make it.', true),
    clients: list('Who may reach the data port: NetworkPolicyPeers.', [{ namespaceSelector: {} }]),
    scraper: list('Who may reach the admin port.', [
      { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } } },
    ]),
    storePorts: list(
      'TCP ports that the pods may reach, anywhere. Those of directories and of addresses in config.providers are added.',
      [443, 6443],
      { type: 'integer' },
    ),
  },
)

/** Rancher's user interface puts more here, in both. */
const GLOBAL: Schema = {
  ...group('Named as in the charts of Rancher.', {
    cattle: {
      ...group('', { systemDefaultRegistry: image('A registry before the name of each image.', '') }),
      additionalProperties: true,
    },
    kubectl: group('The image that waits for the clean-up of Windows nodes at `helm uninstall`.', {
      repository: image('Where it is.', 'registry.k8s.io/kubectl'),
      tag: text('Its version.', 'v1.33.4', { pattern: TAG }),
      pullPolicy: pullPolicy('When it is pulled.', 'IfNotPresent'),
    }),
    imagePullSecrets: list('Names of pull Secrets: `[{ name: … }]`.'),
  }),
  additionalProperties: true,
}

const VALUES: Readonly<Record<string, Schema>> = {
  mode: text(
    'windows: a host process on each Windows node, for the CCG plug-in. linux: a pod on each Linux node. deployment: replicas behind a Service.',
    'windows',
    { enum: ['windows', 'linux', 'deployment'] },
  ),
  secretNames: list(
    'Secrets with an impersonation credential: username, password, domainName. Nothing else can be read. Empty, and no config.accounts: RELEASE-creds.',
    [],
    { type: 'string', pattern: NAME },
  ),
  config: configuration(),
  allowRootKeys: flag(
    'Let config have a provider of the type kds-root-key. Whoever can read the pod or its Secrets is every gMSA of the forest then, from now on and for good.',
    false,
  ),
  domain: DOMAIN,
  credentialSpecs: CREDENTIAL_SPECS,
  ccg: group('Host files of the CCG plug-in, windows mode only.', {
    namespace: text('Their folder and the first part of PluginInput. Empty: NAMESPACE-RELEASE.', '', {
      pattern: `^$|${NAMESPACE_PATTERN}`,
    }),
  }),
  certificates: CERTIFICATES,
  image: IMAGE,
  port: port('Data port. null: 8443, in windows mode one that the system chooses.'),
  adminPort: port("Port of probes and metrics. null: 9464, in windows mode one that follows from the release's name."),
  metrics: METRICS,
  networkPolicy: NETWORK_POLICY,
  rbac: group('Rights on Secrets.', {
    create: flag('A Role that may get the Secrets of the configuration, by name. false: bring your own.', true),
  }),
  serviceAccount: group('The service account of the pods.', {
    create: flag('Make it.', true),
    name: name('Empty: the name of the release; needed where it is not made.', ''),
    annotations: foreign('Annotations, for workload identity.'),
  }),
  replicas: count('Deployment mode: how many.', 2),
  autoscaling: group('Deployment mode: a HorizontalPodAutoscaler.', {
    enabled: flag('Make it, in place of replicas.', false),
    minReplicas: count('At least.', 2),
    maxReplicas: count('At most.', 6),
    targetCPUUtilizationPercentage: count('Of the CPU request.', 70, 1, 1000),
  }),
  podDisruptionBudget: group('Deployment mode, with more than one replica.', {
    enabled: flag('Make it.', true),
    maxUnavailable: count('How many may be away.', 1),
  }),
  clusterDomain: name("The cluster's DNS domain, for names in certificates.", 'cluster.local'),
  terminationGracePeriodSeconds: count('More than shutdown.drainDelay and shutdown.grace together.', 45),
  resources: foreign('Requests and limits.', {
    requests: { cpu: '50m', memory: '128Mi' },
    limits: { memory: '256Mi' },
  }),
  securityContext: group('Of host-process pods.', {
    windowsOptions: group('Windows mode only.', {
      hostProcess: { const: true, description: 'Nothing else can write the host files.', default: true },
      runAsUserName: text('Who may write host files and trust a CA.', 'NT AUTHORITY\\SYSTEM'),
    }),
  }),
  nodeSelector: foreign('Besides kubernetes.io/os.'),
  affinity: foreign('Affinity of the pods.'),
  tolerations: list('Tolerations of the pods.'),
  priorityClassName: name('Priority of the pods.', ''),
  podAnnotations: foreign('Annotations of the pods.'),
  podLabels: foreign('Labels of the pods.'),
  extraEnv: list('Further variables of the container.'),
  extraVolumes: list('Further volumes: a directory CA, a revocation list, files of the file provider.'),
  extraVolumeMounts: list('Where they are mounted.'),
  nameOverride: name("In place of the chart's name in names.", ''),
  fullnameOverride: name('In place of RELEASE-gmsa-account-provider.', ''),
  namespaceOverride: name("In place of the release's namespace.", ''),
  global: GLOBAL,
}

/** JSON Schema (draft-07) of the values, as helm checks them. Throws where helm would not understand a pattern. */
export function valuesSchema(): unknown {
  return portable({
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'Values of the chart gmsa-account-provider',
    ...group('Values.', VALUES),
  })
}

/** Helm reads patterns as Go does, which knows no look-ahead and no \u: both are said in another way. */
function portable(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(portable)
  if (typeof schema !== 'object' || schema === null) return schema
  const copy = Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, portable(value)]))
  if (typeof copy['pattern'] !== 'string') return copy
  const longest = /^\^\(\?=\.\{1,(\d+)\}\$\)/.exec(copy['pattern'])
  const pattern = copy['pattern']
    .replace(longest?.[0] ?? '^', '^')
    .replaceAll(/\\u([0-9a-fA-F]{4})/g, (_, hex) => String.fromCodePoint(Number.parseInt(hex, 16)))
  if (/\(\?[=!<]/.test(pattern)) throw new Error(`a pattern that helm does not understand: ${copy['pattern']}`)
  return { ...copy, pattern, ...(longest && { maxLength: Number(longest[1]) }) }
}

/** values.yaml: every option with a default, its description above it. */
export function valuesYaml(): string {
  const document = new Document(defaultsOf(VALUES))
  visit(document, {
    Pair(_, pair, path) {
      const names = [...path.flatMap((node) => keyOf(node)), ...keyOf(pair)]
      const { description, properties } = schemaOf(names)
      const key = (pair as Pair<Scalar>).key
      if (typeof description === 'string') key.commentBefore = wrap(description, names.length)
      if (properties === undefined || asRecord(schemaOf(names))['default'] !== undefined) return visit.SKIP
      if (names.length === 1) key.spaceBefore = true
      return undefined
    },
  })
  document.commentBefore = ' Generated from scripts/chart-values.ts: npm run generate'
  return document.toString({ lineWidth: 120 })
}

const keyOf = (node: unknown): string[] => {
  const key = asRecord(asRecord(node)['key'])['value']
  return typeof key === 'string' ? [key] : []
}

const schemaOf = (names: readonly string[]): Schema =>
  names.reduce<Schema>((schema, name) => asRecord(asRecord(schema['properties'])[name]), { properties: VALUES })

function defaultsOf(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(options).flatMap(([name, option]) => {
      const { default: value, properties } = asRecord(option)
      if (value !== undefined) return [[name, value]]
      return properties === undefined ? [] : [[name, defaultsOf(asRecord(properties))]]
    }),
  )
}

/** A comment of several lines, 100 characters wide at most. */
function wrap(description: string, depth: number): string {
  const lines: string[] = []
  for (const word of description.split(' ')) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + word.length + 1 <= 100 - 2 * depth)
      lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines.map((line) => ` ${line}`).join('\n')
}

/** Name, default and description of every option, in dotted form, for the README. `config` has a page of its own. */
export function valueRows(options: Readonly<Record<string, unknown>> = VALUES, prefix = ''): string[][] {
  return Object.entries(options).flatMap(([name, option]) => {
    const { description, default: value, properties, additionalProperties } = asRecord(option)
    const entries = asRecord(asRecord(additionalProperties)['properties'])
    const below = name === 'config' ? {} : (properties ?? entries)
    const infix = properties === undefined ? '.NAME' : ''
    const otherwise = value === undefined ? '' : `\`${JSON.stringify(value)}\``
    const row = [`\`${prefix}${name}\``, otherwise, String(description)]
    return [row, ...valueRows(asRecord(below), `${prefix}${name}${infix}.`)]
  })
}
