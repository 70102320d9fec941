import { randomUUID } from 'node:crypto'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Reporter, SerializedError, TestCase, TestModule, TestSuite } from 'vitest/node'

/** What `npm test` ends with. */
export interface Count {
  passed: number
  failed: number
  /** Every skipped test by name, with its reason where one was given. */
  skipped: { name: string; reason: string | undefined }[]
}

/** Reasons that `needs` in test/lab/skip.ts has noted, by test file. */
function readNotes(file: string): Map<string, string> {
  try {
    const lines = readFileSync(file, 'utf8').trim().split('\n')
    const notes = lines.map((line): { file: string; reason: string } => JSON.parse(line))
    const byFile = Map.groupBy(notes, ({ file }) => file)
    return new Map([...byFile].map(([name, all]) => [name, [...new Set(all.map(({ reason }) => reason))].join('; ')]))
  } catch {
    return new Map()
  }
}

const broken = (group: TestModule | TestSuite) => group.errors().length > 0

/** Whether a test was left out only because what it stands in has failed, which is counted there. */
function insideBroken(test: TestCase): boolean {
  for (let at: TestModule | TestSuite = test.parent; ; at = at.parent) {
    if (broken(at)) return true
    if (at.type === 'module') return false
  }
}

/** Vitest reporter that counts into a file, because the last line of `npm test` also counts other steps. */
export class Tally implements Reporter {
  readonly #file: string
  readonly #notes = join(tmpdir(), `gmsa-skips-${randomUUID()}`)

  constructor(file: string) {
    this.#file = file
  }

  onInit(): void {
    // Workers inherit it.
    process.env['GMSA_SKIP_NOTES'] = this.#notes
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const notes = readNotes(this.#notes)
    rmSync(this.#notes, { force: true })
    const count: Count = { passed: 0, failed: unhandled.length, skipped: [] }
    for (const module of modules) {
      // A file that could not be loaded, or a failed beforeAll, has failed even where no test of it has.
      const groups = [module, ...module.children.allSuites()]
      count.failed += groups.filter(broken).length
      for (const test of module.children.allTests()) {
        const result = test.result()
        if (result.state === 'passed') count.passed += 1
        else if (result.state !== 'skipped') count.failed += 1
        else if (!insideBroken(test)) {
          const reason = result.note ?? notes.get(module.moduleId)
          count.skipped.push({ name: `${module.relativeModuleId} > ${test.fullName}`, reason })
        }
      }
    }
    writeFileSync(this.#file, JSON.stringify(count))
  }
}
