import { describe, expect, test } from 'vitest'
import { needs } from '../lab/skip.ts'
import { configurationOf, parseObjects, template } from './helm.ts'

const provider = [
  '--set-json',
  'config.providers={"offline":{"type":"kds-root-key","rootKeys":{"file":"/keys/k.json"}}}',
]

describe.skipIf(!needs('helm'))('KDS root keys in a chart', () => {
  test('are refused, whatever else is asked for, with what they would mean', () => {
    const { code, said } = template({ args: provider })
    expect(code).not.toBe(0)
    expect(said).toMatch(/config\.providers\.offline: KDS root keys .* allowRootKeys=true/)
  })

  test('are taken where that is said', () => {
    const { code, output } = template({ args: [...provider, '--set', 'allowRootKeys=true'] })
    expect(code).toBe(0)
    expect(configurationOf(parseObjects(output))).toMatch(/type: kds-root-key/)
  })
})
