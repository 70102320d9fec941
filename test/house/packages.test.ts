import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { root, text } from './source.ts'

interface Locked {
  readonly version: string
  readonly license?: string
  readonly dev?: boolean
  readonly optional?: boolean
  readonly hasInstallScript?: boolean
}

const { '': _, ...locked }: Record<string, Locked> = JSON.parse(text('package-lock.json')).packages
const production = Object.entries(locked).filter(([, { dev }]) => !dev)
/** What a slim image holds: `npm ci --omit=dev --omit=optional`. */
const slim = production.filter(([, { optional }]) => !optional)

const permissive = ['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'BlueOak-1.0.0', 'ISC', 'MIT']
/** Tools that are never handed on may be under these too. */
const forTools = [...permissive, 'MPL-2.0', 'Zlib', 'CC0-1.0', 'CC-BY-4.0', 'Python-2.0']

/** Whether an SPDX expression can be met with `allowed`: one side of an OR, every side of an AND. */
function licenceFits(expression: string, allowed: readonly string[]): boolean {
  const plain = expression.replace(/^\((.*)\)$/, '$1')
  if (plain.includes(' OR ')) return plain.split(' OR ').some((part) => licenceFits(part, allowed))
  return plain.split(' AND ').every((part) => allowed.includes(part))
}

/** Bytes of one package without the packages nested in it. */
function sizeOf(folder: string): number {
  if (!existsSync(folder)) return 0
  return readdirSync(folder, { withFileTypes: true }).reduce((sum, entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return sum + (entry.name === 'node_modules' ? 0 : sizeOf(path))
    return sum + (entry.isFile() ? statSync(path).size : 0)
  }, 0)
}

describe('licences', () => {
  const refused = (packages: typeof production, allowed: readonly string[]) =>
    packages.flatMap(([path, { license = 'none' }]) => (licenceFits(license, allowed) ? [] : [`${path}: ${license}`]))

  test('of everything that is shipped are permissive', () => {
    expect(production.length).toBeGreaterThan(40)
    expect(refused(production, permissive)).toEqual([])
  })

  test('of the tools are known', () => {
    expect(refused(Object.entries(locked), forTools)).toEqual([])
  })

  test.each([
    ['GPL-3.0-only', false],
    ['none', false],
    ['(MIT OR GPL-2.0-only)', true],
    ['(MIT AND GPL-2.0-only)', false],
  ])('%s is judged %s', (expression, fits) => {
    expect(licenceFits(expression, permissive)).toBe(fits)
  })
})

describe('the budget of a slim image', () => {
  test('is at most 75 packages', () => {
    expect(slim.length).toBeLessThanOrEqual(75)
  })

  test('is at most 40 MB', () => {
    const bytes = slim.reduce((sum, [path]) => sum + sizeOf(join(root, path)), 0)
    expect(bytes).toBeGreaterThan(1_000_000)
    expect(bytes / 1e6).toBeLessThanOrEqual(40)
  })

  test('has no package that runs a script when it is installed', () => {
    expect(production.filter(([, { hasInstallScript }]) => hasInstallScript)).toEqual([])
  })
})

describe('package.json', () => {
  const { dependencies, optionalDependencies, devDependencies, scripts } = JSON.parse(text('package.json'))

  test('pins every dependency to one version', () => {
    for (const version of Object.values({ ...dependencies, ...optionalDependencies, ...devDependencies })) {
      expect(version).toMatch(/^\d+\.\d+\.\d+$/)
    }
  })

  test('starts every script through the wrapper that brings Node 24', () => {
    for (const script of Object.values(scripts)) expect(script).toMatch(/^node scripts\/run\.mjs /)
  })
})
