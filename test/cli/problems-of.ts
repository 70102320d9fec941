import { writeFileSync } from 'node:fs'
import { loadConfig } from '../../src/cli/config.ts'
import { formatProblem } from '../../src/cli/config-problem.ts'

/** Line, column, path and message of each problem of the configuration in `text`, written to `file`. */
export async function problemsOf(text: string | Uint8Array, file: string): Promise<string[]> {
  writeFileSync(file, text)
  const result = await loadConfig({ file, env: {}, cwd: '/' })
  return result.ok ? [] : result.problems.map((problem) => formatProblem(problem).replace(`${file}:`, '').trim())
}
