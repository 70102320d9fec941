import { getCACertificates } from 'node:tls'

/** PEM of the operating system's roots, where companies put their own; the runtime's where it has none. */
export function systemRoots(): string[] {
  const roots = getCACertificates('system')
  return roots.length > 0 ? roots : getCACertificates('default')
}
