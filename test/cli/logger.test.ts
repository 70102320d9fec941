import { execFileSync } from 'node:child_process'
import { closeSync, constants, openSync, readSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { openProcessLog } from '../../src/cli/logger.ts'
import { type MovableClock, movableClock } from '../fakes/clock.ts'

let directory: string
let file: string
let clock: MovableClock
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'gmsa-log-'))
  file = join(directory, 'log')
  clock = movableClock()
})
afterEach(() => rm(directory, { recursive: true, force: true }))

describe('the log of a process', () => {
  let descriptor: number
  beforeEach(() => {
    descriptor = openSync(file, 'a')
  })
  afterEach(() => closeSync(descriptor))

  const lines = async () => (await readFile(file, 'utf8')).split('\n').filter((line) => line !== '')

  test('writes a line within 50 ms, together with those that came meanwhile', async () => {
    const { log } = openProcessLog('info', clock, descriptor)
    log.info({}, 'one')
    await clock.advance(49)
    log.info({}, 'two')
    expect(await lines()).toEqual([])
    await clock.advance(1)
    await vi.waitFor(async () => expect(await lines()).toHaveLength(2))
  })

  test('has no timer once everything is written', async () => {
    const armed = vi.spyOn(clock, 'after')
    const { log } = openProcessLog('info', clock, descriptor)
    expect(clock.pending).toBe(0)
    log.info({}, 'one')
    for (let round = 0; round < 20; round++) {
      await clock.advance(50)
      // The system writes in its own time.
      await setTimeout(2)
    }
    await vi.waitFor(async () => {
      await clock.advance(50)
      expect(clock.pending).toBe(0)
    })
    // One that writes, and one that finds nothing more.
    expect(armed.mock.calls.length).toBeLessThanOrEqual(2)
    expect(await lines()).toHaveLength(1)
  })

  test('writes what waits when the process is about to end', async () => {
    const { log, flush } = openProcessLog('info', clock, descriptor)
    log.info({}, 'last words')
    flush()
    expect(await lines()).toHaveLength(1)
  })
})

// Windows has no named pipes in its file system.
test.skipIf(process.platform === 'win32')('a line that came while the reader was slow is written, too', async () => {
  // mkfifo(1) has no equal in Node.
  execFileSync('sh', ['-c', 'mkfifo "$0"', file])
  const reader = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
  const descriptor = openSync(file, 'w')
  let read = ''
  try {
    const { log } = openProcessLog('info', clock, descriptor)
    log.info({ more: 'x'.repeat(MORE_THAN_A_PIPE_HOLDS) }, 'block')
    log.info({}, 'late')
    await clock.advance(50)
    expect(clock.pending).toBe(0)
    await vi.waitFor(async () => {
      read += readWaiting(reader)
      await clock.advance(50)
      expect(read).toContain('"late"')
    })
  } finally {
    closeSync(descriptor)
    closeSync(reader)
  }
})

const MORE_THAN_A_PIPE_HOLDS = 200_000

function readWaiting(pipe: number): string {
  const chunk = Buffer.alloc(MORE_THAN_A_PIPE_HOLDS)
  try {
    return chunk.toString('latin1', 0, readSync(pipe, chunk))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return ''
    throw error
  }
}
