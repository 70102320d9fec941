import { readFileSync } from 'node:fs'

/** Version and commit of this build. The image and the package state the commit; a checkout does not know it. */
export function buildInfo(): { readonly version: string; readonly commit: string } {
  const manifest: { version?: string; gitHead?: string } = JSON.parse(
    readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
  )
  return {
    version: manifest.version ?? 'unknown',
    commit: process.env['GMSA_PROVIDER_COMMIT'] || manifest.gitHead || 'unknown',
  }
}

/** `<version> (<commit>)`, as Rancher's build prints it. */
export function buildVersion(): string {
  const { version, commit } = buildInfo()
  return `${version} (${commit})`
}
