import { stringify } from 'yaml'
import type { CredentialSpec, CredentialSpecFormat } from '../gmsa/credential-spec.ts'

/**
 * The text of a credential spec: JSON for Docker and containerd, a GMSACredentialSpec manifest (windows.k8s.io/v1) in
 * YAML for Kubernetes, called `name` there.
 */
export function formatCredentialSpec(spec: CredentialSpec, format: CredentialSpecFormat, name: string): string {
  if (format === 'docker') return `${JSON.stringify(spec, null, 2)}\n`
  const manifest = { apiVersion: 'windows.k8s.io/v1', kind: 'GMSACredentialSpec', metadata: { name }, credspec: spec }
  return stringify(manifest, { lineWidth: 0 })
}
