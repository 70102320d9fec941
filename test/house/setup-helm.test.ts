import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { goProgram, setupHelm } from '../../scripts/setup-helm.ts'

let folder: string
let said: string[]
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gmsa-helm-'))
  said = []
})
afterEach(() => rmSync(folder, { recursive: true }))

/** A program of that name in a folder of its own, for PATH. */
function program(name: string, script: string): string {
  const path = join(folder, 'path')
  mkdirSync(path, { recursive: true })
  writeFileSync(join(path, name), `#!/bin/sh\n${script}\n`)
  chmodSync(join(path, name), 0o755)
  return path
}
const setUp = (env: NodeJS.ProcessEnv) => setupHelm((line) => said.push(line), join(folder, 'built'), env)

describe('the set-up of helm', () => {
  test('leaves a machine alone that nobody has offered to it', async () => {
    const path = program('go', 'exit 1')
    expect(await setUp({ PATH: path })).toContain('only with CI=true or GMSA_TEST_INSTALL=1')
    expect(said).toEqual([])
  })

  test('takes the helm that is there', async () => {
    expect(await setUp({ PATH: program('helm', ''), CI: 'true' })).toBe('there')
  })

  test('builds one version into the folder it is given', async () => {
    const path = program('go', `printf '%s ' "$@" > ${folder}/args; : > "$GOBIN/helm"`)
    expect(await setUp({ PATH: path, GMSA_TEST_INSTALL: '1' })).toBe('built')
    expect(readFileSync(join(folder, 'args'), 'utf8')).toMatch(
      /^install .* helm\.sh\/helm\/v3\/cmd\/helm@v3\.\d+\.\d+ $/,
    )
    expect(said).toHaveLength(1)
    expect(await setUp({ PATH: path })).toBe('there')
  })

  test('says what went wrong, and fails nothing', async () => {
    const path = program('go', 'echo no network >&2; exit 3')
    expect(await setUp({ PATH: path, CI: 'true' })).toBe('go install ended with code 3:\nno network')
  })

  test('finds Go on PATH first', () => {
    const path = program('go', '')
    expect(goProgram(path)).toBe(join(path, 'go'))
  })
})
