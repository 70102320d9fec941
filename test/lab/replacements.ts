import { watch } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'

/** What happened to one file since somebody asked last. */
export interface Happened {
  /** How often another file took its name. */
  readonly replaced: number
  /** How often it was written, or its mode changed, where it stood. */
  readonly touched: number
}

/** Counts what happens to the files of a folder. */
export interface Replacements extends Disposable {
  since(file: string): Promise<Happened>
}

/** Linux' inotify tells of each renaming by itself, so none is lost between two looks. */
export function watchReplacements(folder: string): Replacements {
  const events: { readonly event: string; readonly name: string | null }[] = []
  const watcher = watch(folder, (event, name) => {
    events.push({ event, name })
    if (name !== null) marks.get(name)?.()
  })
  /** By name of a file that is there only to be seen, whom to tell of it. */
  const marks = new Map<string, () => void>()
  let made = 0

  /** Events come in order: once that of our own file is there, so are all before it. */
  async function catchUp(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    made += 1
    const mark = `.mark-${made}`
    marks.set(mark, resolve)
    await writeFile(join(folder, mark), '')
    await promise
    marks.delete(mark)
    await rm(join(folder, mark))
  }

  return {
    async since(file) {
      await catchUp()
      const ours = events.filter(({ name }) => name === basename(file))
      const others = events.filter(({ name }) => name !== basename(file))
      events.splice(0, events.length, ...others)
      const count = (wanted: string) => ours.filter(({ event }) => event === wanted).length
      return { replaced: count('rename'), touched: count('change') }
    },
    [Symbol.dispose]: () => watcher.close(),
  }
}
