import { describe, expect, test } from 'vitest'
import { makeGate } from '../../src/base/gate.ts'

/** Tasks that end when told, and the order in which they began. */
function makeTasks() {
  const began: number[] = []
  const ends = new Map<number, () => void>()
  const task = (number: number) => () => {
    began.push(number)
    const { promise, resolve } = Promise.withResolvers<number>()
    ends.set(number, () => resolve(number))
    return promise
  }
  const end = async (number: number) => {
    ends.get(number)?.()
    await settled()
  }
  return { began, task, end }
}

const settled = () => new Promise((resolve) => setImmediate(resolve))

describe('a gate', () => {
  test('lets as many in as it is wide, and the others in turn', async () => {
    const { began, task, end } = makeTasks()
    const enter = makeGate(2)
    const all = [1, 2, 3, 4].map((number) => enter(task(number)))
    await settled()
    expect(began).toEqual([1, 2])
    await end(2)
    expect(began).toEqual([1, 2, 3])
    for (const number of [1, 3, 4]) await end(number)
    expect(await Promise.all(all)).toEqual([1, 2, 3, 4])
  })

  test('gets the place back of one that fails, or throws before it begins', async () => {
    const enter = makeGate(1)
    await expect(enter(() => Promise.reject(new Error('own')))).rejects.toThrow('own')
    const thrower = () => {
      throw new Error('own')
    }
    await expect(enter(thrower)).rejects.toThrow('own')
    expect(await enter(async () => 5)).toBe(5)
  })

  test('forgets whoever leaves the line', async () => {
    const { began, task, end } = makeTasks()
    const enter = makeGate(1)
    const leaving = new AbortController()
    const first = enter(task(1))
    const second = enter(task(2), leaving.signal).catch((error) => error.message)
    const third = enter(task(3))
    leaving.abort(new Error('enough'))
    expect(await second).toBe('enough')
    await end(1)
    await end(3)
    expect(await Promise.all([first, third])).toEqual([1, 3])
    expect(began).toEqual([1, 3])
  })

  test('loses no place to one whose turn comes as it leaves', async () => {
    const { task, end } = makeTasks()
    const enter = makeGate(1)
    const leaving = new AbortController()
    void enter(task(1))
    const second = enter(task(2), leaving.signal).catch((error) => error.message)
    const ending = end(1)
    leaving.abort(new Error('enough'))
    await ending
    expect(await second).toBe('enough')
    expect(await enter(async () => 3)).toBe(3)
  })

  test('gets the place back of one that goes on after its signal', async () => {
    const { task } = makeTasks()
    const enter = makeGate(1)
    const leaving = new AbortController()
    const first = enter(task(1), leaving.signal).catch((error) => error.message)
    leaving.abort(new Error('enough'))
    expect(await first).toBe('enough')
    expect(await enter(async () => 2)).toBe(2)
  })
})
