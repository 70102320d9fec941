import { describe, expect, test } from 'vitest'
import { BEHAVIOURS, behaviourRows, testsById } from '../../scripts/behaviours.ts'
import { text } from './source.ts'

const page = text('docs/behaviours.md')
const ids = BEHAVIOURS.map(([id]) => id)
/** IDs in bold before the colon of each point of the list. */
const gaps = page
  .slice(page.indexOf('\n## What is not shown here'))
  .split('\n- ')
  .slice(1)
  .map((point) => ({ named: [...(point.split(': ')[0] ?? '').matchAll(/\*\*(\w+)\*\*/g)].map(([, id]) => id), point }))

describe('what the agent is held to', () => {
  const tests = testsById()

  test('has an ID for each line, and none twice', () => {
    expect(new Set(ids).size).toBe(ids.length)
    expect(ids.length).toBeGreaterThan(45)
  })

  test.each(BEHAVIOURS)('%s, that %s, is named by a test', (id) => {
    expect(tests.get(id) ?? []).not.toEqual([])
  })

  test('and no title begins with an ID that is none', () => {
    expect([...tests].filter(([id]) => !ids.includes(id))).toEqual([])
  })

  test('stands on its page with the files of the tests as they are now', () => {
    for (const [id = '', holds, files] of behaviourRows()) expect(page).toContain(`| ${id} | ${holds} | ${files} |`)
  })

  test('is open where a point of the page says so, each with its reason', () => {
    expect(gaps.length).toBeGreaterThan(5)
    for (const { named, point } of gaps) {
      expect(named, point).not.toEqual([])
      expect(ids, point).toEqual(expect.arrayContaining(named))
      expect(point.split(': ').slice(1).join(': ').length, point).toBeGreaterThan(40)
    }
  })
})
