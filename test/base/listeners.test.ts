import { describe, expect, test, vi } from 'vitest'
import { makeListeners } from '../../src/base/listeners.ts'

describe('listeners', () => {
  test('each is told until it is disposed, also one that was added twice', () => {
    const listeners = makeListeners<[what: string]>()
    const told = vi.fn()
    const first = listeners.add(told)
    listeners.add(told)
    listeners.tell('one')
    first[Symbol.dispose]()
    listeners.tell('two')
    expect(told.mock.calls).toEqual([['one'], ['one'], ['two']])
  })

  test('one that takes another away while all are told does no harm', () => {
    const listeners = makeListeners<[]>()
    const last = vi.fn()
    const added: Disposable[] = []
    listeners.add(() => added[0]?.[Symbol.dispose]())
    added.push(listeners.add(last))
    listeners.tell()
    listeners.tell()
    expect(last).toHaveBeenCalledTimes(1)
  })

  test('none is told after all were cleared', () => {
    const listeners = makeListeners<[]>()
    const told = vi.fn()
    listeners.add(told)
    listeners.clear()
    listeners.tell()
    expect(told).not.toHaveBeenCalled()
  })
})
