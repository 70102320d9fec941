import { describe, expect, test } from 'vitest'
import { orderRecords, type ServerRecord } from '../../src/base/srv.ts'

const record = (name: string, priority = 0, weight = 100): ServerRecord => ({ name, port: 88, priority, weight })
const namesInOrder = (records: readonly ServerRecord[], random: () => number) =>
  orderRecords(records, random).map(({ name }) => name)

/** The same numbers each run: a linear congruential generator. */
function numbers(seed = 1): () => number {
  let state = seed
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31
    return state / 2 ** 31
  }
}

describe('the order of SRV records', () => {
  test('lower priorities come first, whatever the weights', () => {
    const records = [record('c', 20, 1000), record('a', 0, 1), record('b', 10, 1000)]
    for (let seed = 1; seed < 50; seed++) expect(namesInOrder(records, numbers(seed))).toEqual(['a', 'b', 'c'])
  })

  test('within one priority the first is drawn by weight', () => {
    const random = numbers()
    const records = [record('heavy', 0, 300), record('light', 0, 100)]
    const rounds = Array.from({ length: 2_000 }, () => namesInOrder(records, random))
    const heavyFirst = rounds.filter(([first]) => first === 'heavy').length / rounds.length
    expect(heavyFirst).toBeGreaterThan(0.7)
    expect(heavyFirst).toBeLessThan(0.8)
    expect(new Set(rounds.map((each) => each.toSorted().join()))).toEqual(new Set(['heavy,light']))
  })

  test('records without weight are equals among each other, and rare beside others', () => {
    const random = numbers()
    const first = (...records: ReturnType<typeof record>[]) => namesInOrder(records, random)[0]
    const drawn = Array.from({ length: 1_000 }, () => first(record('a', 0, 0), record('b', 0, 0)))
    expect(drawn.filter((each) => each === 'a').length).toBeGreaterThan(400)
    expect(drawn.filter((each) => each === 'b').length).toBeGreaterThan(400)
    const beside = Array.from({ length: 1_000 }, () => first(record('none', 0, 0), record('some', 0, 99)))
    const rare = beside.filter((each) => each === 'none').length
    expect(rare).toBeGreaterThan(0)
    expect(rare).toBeLessThan(50)
  })

  test('the name that says there is no such service never comes', () => {
    expect(namesInOrder([record('a'), record('.'), record('')], numbers())).toEqual(['a'])
    expect(namesInOrder([], numbers())).toEqual([])
  })

  test.each([0, 0.5, 0.999_999])('no record is lost when the number drawn is %d', (value) => {
    const records = [record('a', 0, 0), record('b', 0, 10), record('c', 0, 65_535), record('d', 1, 0)]
    expect(namesInOrder(records, () => value).toSorted()).toEqual(['a', 'b', 'c', 'd'])
  })
})
