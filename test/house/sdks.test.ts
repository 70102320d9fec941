import { describe, expect, test } from 'vitest'
import { files, text } from './source.ts'

/** Packages that a slim installation is without, and the one file that loads each. */
const owners: Record<string, string> = {
  '@aws-sdk/client-secrets-manager': 'src/providers/aws-secrets-manager/open.ts',
  '@azure/identity': 'src/providers/azure-key-vault/open.ts',
  '@azure/keyvault-secrets': 'src/providers/azure-key-vault/open.ts',
}

const packageOf = (specifier: string) => specifier.match(/^(?:@[^/]+\/)?[^/]+/)?.[0] ?? ''

/** Packages that a source loads when it is loaded itself, and those it loads later; types alone load nothing. */
function loads(source: string): { readonly atOnce: string[]; readonly later: string[] } {
  const code = source.replace(/\bimport\s+type\s[^'"]*(['"])[^'"]*\1/g, '').replace(/\btypeof\s+import\([^)]*\)/g, '')
  const found = (pattern: RegExp) => [...code.matchAll(pattern)].map(([, specifier = '']) => packageOf(specifier))
  return {
    atOnce: found(/(?:\bfrom|\bimport)\s*['"]([^'".][^'"]*)['"]/g),
    later: found(/\bimport\s*\(\s*['"]([^'".][^'"]*)['"]/g),
  }
}

describe('optional packages', () => {
  const { optionalDependencies } = JSON.parse(text('package.json'))
  const sources = files('src/**/*.ts')

  test('are those whose owner is known here', () => {
    expect(Object.keys(optionalDependencies).sort()).toEqual(Object.keys(owners).sort())
  })

  test('are loaded by their owner alone, and only when its store is opened', () => {
    const found = sources.flatMap((source) => {
      const { atOnce, later } = loads(text(source))
      return [
        ...atOnce.filter((name) => name in owners).map((name) => `${source}: ${name} at once`),
        ...later.filter((name) => name in owners && owners[name] !== source).map((name) => `${source}: ${name}`),
      ]
    })
    expect(found).toEqual([])
    for (const [name, owner] of Object.entries(owners)) expect(loads(text(owner)).later).toContain(name)
  })

  test('would be found however they are loaded', () => {
    expect(loads(`import { a } from '@azure/identity'`).atOnce).toEqual(['@azure/identity'])
    expect(loads(`import '@azure/identity/x'`).atOnce).toEqual(['@azure/identity'])
    expect(loads(`export * from "@azure/identity"`).atOnce).toEqual(['@azure/identity'])
    expect(loads(`import { type A } from '@azure/identity'`).atOnce).toEqual(['@azure/identity'])
    expect(loads(`await import('@azure/identity')`).later).toEqual(['@azure/identity'])
    expect(loads(`import type { A } from '@azure/identity'\ntype B = typeof import('@azure/identity')`)).toEqual({
      atOnce: [],
      later: [],
    })
  })
})
