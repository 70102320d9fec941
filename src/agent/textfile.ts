import { writeFileAtomically } from '../base/atomic-file.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'

export interface TextfileOptions {
  readonly render: () => string
  readonly clock: Clock
  readonly log: Log
}

/** Metrics in a file, for node_exporter's textfile collector. */
export interface Textfile extends AsyncDisposable {
  changed(): void
}

/** At least this often, in ms, so that the file's own time says that the agent lives. */
const EVERY = 60_000
/** Changes closer together than this, in ms, are written together. */
const SETTLE = 500

/** Writes the metrics to `path`, readable for all, when they change and once a minute. */
export function openTextfile(path: string, { render, clock, log }: TextfileOptions): Textfile {
  let pending: Disposable | undefined
  let writing = Promise.resolve()
  let failed = false

  async function write(): Promise<void> {
    try {
      await writeFileAtomically(path, render(), 0o644)
      failed = false
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (!failed) log.warn({ file: path, problem: code }, 'metrics could not be written')
      failed = true
    }
  }

  function changed(): void {
    pending ??= clock.after(SETTLE, () => {
      pending = undefined
      writing = writing.then(write)
    })
  }

  const timer = clock.every(EVERY, changed)
  return {
    changed,
    async [Symbol.asyncDispose]() {
      timer[Symbol.dispose]()
      pending?.[Symbol.dispose]()
      await writing.then(write)
    },
  }
}
