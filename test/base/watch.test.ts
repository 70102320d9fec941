import { appendFile, mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { type WatchOptions, watchDirectories, watchFiles } from '../../src/base/watch.ts'
import { movableClock } from '../fakes/clock.ts'

let base: string
let directory: string
let watching: Disposable | undefined
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'gmsa-watch-'))
  directory = join(base, 'watched')
  await mkdir(directory)
})
afterEach(async () => {
  watching?.[Symbol.dispose]()
  await rm(base, { recursive: true, force: true })
})

function listen(directories: readonly string[] | (() => readonly string[]), options: Partial<WatchOptions> = {}) {
  const look = vi.fn()
  watching = watchDirectories(directories, look, { clock: systemClock, settle: 20, ...options })
  return look
}

const called = (look: ReturnType<typeof vi.fn>) => vi.waitFor(() => expect(look).toHaveBeenCalled(), 2_000)

/** Waits until all events of the past are told. */
async function quiet(look: ReturnType<typeof vi.fn>): Promise<void> {
  await setTimeout(150)
  look.mockClear()
}

describe('a watch of a folder', () => {
  test('looks when a file in it is made, changed, replaced or deleted', async () => {
    const file = join(directory, 'file')
    const look = listen([directory])
    const steps = [
      () => writeFile(file, 'a'),
      () => appendFile(file, 'b'),
      async () => {
        await writeFile(join(base, 'next'), 'c')
        await rename(join(base, 'next'), file)
      },
      () => rm(file),
    ]
    for (const step of steps) {
      await quiet(look)
      await step()
      await called(look)
    }
  })

  test('looks when the link ..data of a volume is swapped', async () => {
    await mkdir(join(directory, '..1'))
    await mkdir(join(directory, '..2'))
    await symlink('..1', join(directory, '..data'))
    await symlink('..data/key', join(directory, 'key'))
    watching = undefined
    const look = vi.fn()
    watching = watchFiles([join(directory, 'key')], look, { clock: systemClock, settle: 20 })
    await symlink('..2', join(directory, '..data_tmp'))
    await rename(join(directory, '..data_tmp'), join(directory, '..data'))
    await called(look)
  })

  test('looks once for what happens together, and again for what happens later', async () => {
    const look = listen([directory], { settle: 100 })
    for (let index = 0; index < 20; index += 1) await writeFile(join(directory, `file-${index}`), 'text')
    await setTimeout(300)
    expect(look.mock.calls.length).toBeLessThanOrEqual(2)
    look.mockClear()
    await writeFile(join(directory, 'file'), 'text')
    await called(look)
  })

  test('looks while changes never stop, not only after them', async () => {
    const look = listen([directory], { settle: 50 })
    const end = performance.now() + 600
    while (performance.now() < end) {
      await writeFile(join(directory, 'file'), 'text')
      await setTimeout(10)
    }
    expect(look.mock.calls.length).toBeGreaterThan(3)
  })

  test('is silent once disposed, though something had just happened', async () => {
    const clock = movableClock()
    const look = listen([directory], { clock, poll: 1_000 })
    await writeFile(join(directory, 'file'), 'text')
    await setTimeout(50)
    watching?.[Symbol.dispose]()
    watching?.[Symbol.dispose]()
    expect(clock.pending).toBe(0)
    await writeFile(join(directory, 'file'), 'more')
    await setTimeout(50)
    await clock.advance(10_000)
    expect(look).not.toHaveBeenCalled()
  })
})

describe('a folder that does not stay', () => {
  test('is taken up at once when it was deleted and made again, though it may get the same inode', async () => {
    const look = listen([directory], { settle: 100 })
    await rm(directory, { recursive: true })
    await mkdir(directory)
    await called(look)
    await quiet(look)
    await writeFile(join(directory, 'file'), 'text')
    await called(look)
  })

  test('is taken up at once when another was moved to its place', async () => {
    const look = listen([directory], { settle: 100 })
    await mkdir(join(base, 'next'))
    await rename(directory, join(base, 'old'))
    await rename(join(base, 'next'), directory)
    await called(look)
    await quiet(look)
    await writeFile(join(directory, 'file'), 'text')
    await called(look)
    await quiet(look)
    await writeFile(join(base, 'old', 'file'), 'text')
    await setTimeout(300)
    expect(look).not.toHaveBeenCalled()
  })

  test.each([1_000, undefined])('is taken up by the poll (of %s ms) when it comes later', async (poll) => {
    const clock = movableClock()
    const look = listen([join(base, 'later')], { clock, ...(poll !== undefined && { poll }) })
    await mkdir(join(base, 'later'))
    await clock.advance(11_000)
    expect(look).toHaveBeenCalled()
    look.mockClear()
    await writeFile(join(base, 'later', 'file'), 'text')
    await setTimeout(50)
    await clock.advance(100)
    expect(look).toHaveBeenCalledTimes(1)
  })

  test('is taken up by the poll when a link to it leads elsewhere', async () => {
    const clock = movableClock()
    await mkdir(join(base, 'next'))
    await symlink('watched', join(base, 'link'))
    const look = listen([join(base, 'link')], { clock })
    await symlink('next', join(base, 'link2'))
    await rename(join(base, 'link2'), join(base, 'link'))
    await clock.advance(11_000)
    expect(look).toHaveBeenCalledTimes(1)
    await writeFile(join(base, 'next', 'file'), 'text')
    await setTimeout(50)
    await clock.advance(100)
    expect(look).toHaveBeenCalledTimes(2)
  })

  test('may never come: nothing is thrown', async () => {
    const clock = movableClock()
    const look = listen([join(base, 'none'), '/dev/null/none', `${base}/${'x'.repeat(300)}`], { clock })
    await clock.advance(60_000)
    expect(look).not.toHaveBeenCalled()
  })
})

describe('a set of folders that changes', () => {
  test('is asked for again when something happens', async () => {
    let set = [directory]
    const look = listen(() => set)
    await mkdir(join(directory, 'inner'))
    set = [directory, join(directory, 'inner')]
    await called(look)
    await quiet(look)
    await writeFile(join(directory, 'inner', 'file'), 'text')
    await called(look)
    set = [directory]
    await writeFile(join(directory, 'file'), 'text')
    await quiet(look)
    await writeFile(join(directory, 'inner', 'file'), 'more')
    await setTimeout(200)
    expect(look).not.toHaveBeenCalled()
  })
})

describe('a poll', () => {
  test('looks each time, whether something happened or not', async () => {
    const clock = movableClock()
    const look = listen([directory], { clock, poll: 1_000 })
    await clock.advance(3_500)
    expect(look).toHaveBeenCalledTimes(3)
  })

  test('is absent unless asked for: without a change nobody looks', async () => {
    const clock = movableClock()
    const look = listen([directory], { clock })
    await clock.advance(3_600_000)
    expect(look).not.toHaveBeenCalled()
  })
})
