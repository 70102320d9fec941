import { Certificate } from '@kubernetes-models/cert-manager/cert-manager.io/v1/Certificate'
import { Issuer } from '@kubernetes-models/cert-manager/cert-manager.io/v1/Issuer'
import { PrometheusRule } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule'
import { ServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor'
import { Ajv } from 'ajv'
import { DaemonSet } from 'kubernetes-models/apps/v1/DaemonSet'
import { Deployment } from 'kubernetes-models/apps/v1/Deployment'
import { HorizontalPodAutoscaler } from 'kubernetes-models/autoscaling/v2/HorizontalPodAutoscaler'
import { Job } from 'kubernetes-models/batch/v1/Job'
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1/NetworkPolicy'
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1/PodDisruptionBudget'
import { ClusterRole } from 'kubernetes-models/rbac.authorization.k8s.io/v1/ClusterRole'
import { Role } from 'kubernetes-models/rbac.authorization.k8s.io/v1/Role'
import { RoleBinding } from 'kubernetes-models/rbac.authorization.k8s.io/v1/RoleBinding'
import { ConfigMap } from 'kubernetes-models/v1/ConfigMap'
import { Pod } from 'kubernetes-models/v1/Pod'
import { Service } from 'kubernetes-models/v1/Service'
import { ServiceAccount } from 'kubernetes-models/v1/ServiceAccount'

type Fields = Readonly<Record<string, unknown>>

interface ModelType {
  readonly apiVersion: string
  readonly kind: string
  new (data: never): { validate(): void }
}

const MODELS: readonly ModelType[] = [
  Certificate,
  ClusterRole,
  ConfigMap,
  DaemonSet,
  Deployment,
  HorizontalPodAutoscaler,
  Issuer,
  Job,
  NetworkPolicy,
  Pod,
  PodDisruptionBudget,
  PrometheusRule,
  Role,
  RoleBinding,
  Service,
  ServiceAccount,
  ServiceMonitor,
]

/** A rendered object; what it holds beyond that depends on its kind. */
export interface KubernetesObject extends Fields {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
  }
}

/** What tells an object from every other of a cluster. */
export const idOf = ({ kind, metadata }: KubernetesObject): string =>
  `${kind} ${metadata.namespace ?? ''}/${metadata.name}`

/**
 * What is wrong with the object by the schema of its kind: values that do not fit, and fields that the schema does not
 * have, which an API server would drop with a warning.
 */
export function problemsOf(object: KubernetesObject): string[] {
  if (object.kind === 'GMSACredentialSpec') return credentialSpecProblems(object)
  const type = MODELS.find(({ apiVersion, kind }) => apiVersion === object.apiVersion && kind === object.kind)
  if (!type) return [`no schema of ${object.apiVersion} ${object.kind}`]
  const model = new type(object as never)
  const unknown = new Set<string>()
  try {
    model.validate.call(watched(model, '', unknown))
  } catch (error) {
    return [String(error)]
  }
  return [...unknown].map((path) => `unknown field ${path}`)
}

/**
 * The validators are compiled code that reads every field it knows and lists the keys of free maps: own fields that
 * were neither read nor listed are unknown. What was never looked into is a value of any shape.
 */
function watched<T extends object>(value: T, path: string, unknown: Set<string>): T {
  const pathOf = (key: string) => `${path}.${key}`
  for (const key of Array.isArray(value) ? [] : Object.keys(value)) unknown.add(pathOf(key))
  return new Proxy(value, {
    get(target, key) {
      const found: unknown = Reflect.get(target, key)
      if (typeof key === 'symbol' || !Object.hasOwn(target, key)) return found
      unknown.delete(pathOf(key))
      return typeof found === 'object' && found !== null ? watched(found, pathOf(key), unknown) : found
    },
    ownKeys(target) {
      for (const key of Object.keys(target)) unknown.delete(pathOf(key))
      return Reflect.ownKeys(target)
    },
  })
}

const mapping = (properties: Fields) => ({
  type: 'object',
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
})
const matching = (pattern: string) => ({ type: 'string', pattern })
const BRACED = '^\\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\\}$'
/** What the admission webhook's resource holds for a node that is not joined to the domain; nothing else. */
const isCredentialSpec = new Ajv({ allErrors: true }).compile(
  mapping({
    apiVersion: { const: 'windows.k8s.io/v1' },
    kind: { const: 'GMSACredentialSpec' },
    metadata: { type: 'object' },
    credspec: mapping({
      CmsPlugins: { const: ['ActiveDirectory'] },
      DomainJoinConfig: mapping({
        Sid: matching('^S-1-5-21-\\d+-\\d+-\\d+$'),
        MachineAccountName: matching('^[^$]+$'),
        Guid: matching('^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$'),
        DnsTreeName: matching('[.]'),
        DnsName: matching('[.]'),
        NetBiosName: matching('^[^.]{1,15}$'),
      }),
      ActiveDirectoryConfig: mapping({
        GroupManagedServiceAccounts: {
          type: 'array',
          items: mapping({ Name: matching('^[^$]+$'), Scope: matching('.') }),
          minItems: 2,
        },
        HostAccountConfig: mapping({
          PortableCcgVersion: { const: '1' },
          PluginGUID: matching(BRACED),
          PluginInput: matching('^[a-z0-9-]+:[a-z0-9.-]+$'),
        }),
      }),
    }),
  }),
)

function credentialSpecProblems(object: KubernetesObject): string[] {
  isCredentialSpec(object)
  return (isCredentialSpec.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`)
}
