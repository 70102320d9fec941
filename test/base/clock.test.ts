import { spawnSync } from 'node:child_process'
import { setTimeout } from 'node:timers/promises'
import { describe, expect, test, vi } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { movableClock } from '../fakes/clock.ts'

describe("the system's clock", () => {
  test('tells the time, and a time that only grows', () => {
    expect(Math.abs(systemClock.now() - Date.now())).toBeLessThan(1_000)
    const before = systemClock.monotonic()
    expect(systemClock.monotonic()).toBeGreaterThanOrEqual(before)
  })

  test('runs a task once after, and one again and again, until disposed', async () => {
    const once = vi.fn()
    const often = vi.fn()
    const never = vi.fn()
    systemClock.after(5, once)
    systemClock.after(5, never)[Symbol.dispose]()
    const repeating = systemClock.every(5, often)
    await vi.waitFor(() => expect(often.mock.calls.length).toBeGreaterThan(2))
    repeating[Symbol.dispose]()
    const { length } = often.mock.calls
    await setTimeout(30)
    expect(often).toHaveBeenCalledTimes(length)
    expect(once).toHaveBeenCalledTimes(1)
    expect(never).not.toHaveBeenCalled()
  })

  test('keeps no process alive', () => {
    const source = new URL('../../src/base/clock.ts', import.meta.url).href
    const program = `import { systemClock } from '${source}'
      systemClock.after(60_000, () => {}); systemClock.every(60_000, () => {})`
    const { status } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { timeout: 10_000 })
    expect(status).toBe(0)
  })
})

describe('the clock that tests move', () => {
  test('fires timers in the order they are due, each at its own time', async () => {
    const clock = movableClock()
    const fired: string[] = []
    const note = (name: string) => () => void fired.push(`${name} ${clock.monotonic()}`)
    clock.after(30, note('c'))
    clock.every(20, note('b'))
    clock.after(20, note('a'))[Symbol.dispose]()
    clock.after(10, () => clock.after(5, note('nested')))
    await clock.advance(40)
    expect(fired).toEqual(['nested 15', 'b 20', 'c 30', 'b 40'])
    expect(clock.pending).toBe(1)
  })

  test('steps its wall clock alone', async () => {
    const clock = movableClock(1_000)
    await clock.advance(5)
    clock.stepWall(-100)
    expect([clock.now(), clock.monotonic()]).toEqual([905, 5])
  })
})
