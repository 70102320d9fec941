import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { makePrivateDirectory, writeFileAtomically } from '../../src/base/atomic-file.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'gmsa-atomic-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const modeOf = async (path: string) => ((await stat(path)).mode & 0o7777).toString(8)
const source = new URL('../../src/base/atomic-file.ts', import.meta.url).href

/** Runs the expression in a process of its own, whose umask is this. */
function withUmask(umask: string, expression: string): void {
  const program = `import { makePrivateDirectory, writeFileAtomically } from '${source}'; await ${expression}`
  const script = `umask ${umask}; exec "$0" --input-type=module -e "$1"`
  execFileSync('sh', ['-ec', script, process.execPath, program])
}

describe('writing a file atomically', () => {
  test('makes the file, readable by its owner alone', async () => {
    const path = join(directory, 'file')
    await writeFileAtomically(path, 'text')
    expect(await readFile(path, 'utf8')).toBe('text')
    expect(await modeOf(path)).toBe('600')
  })

  test('takes bytes as they are', async () => {
    const path = join(directory, 'file')
    await writeFileAtomically(path, Uint8Array.of(0, 255, 10))
    expect([...(await readFile(path))]).toEqual([0, 255, 10])
  })

  test.each(['000', '022', '077', '777'])('gives the mode asked for under umask %s', async (umask) => {
    for (const mode of ['600', '644']) {
      const path = join(directory, mode)
      withUmask(umask, `writeFileAtomically(${JSON.stringify(path)}, 'text', 0o${mode})`)
      expect(await modeOf(path)).toBe(mode)
    }
  })

  test('replaces a file of another mode, and a link rather than what it leads to', async () => {
    const [path, target] = [join(directory, 'file'), join(directory, 'target')]
    await writeFile(target, 'old', { mode: 0o644 })
    await symlink(target, path)
    await writeFileAtomically(path, 'new')
    expect([await readFile(path, 'utf8'), await readFile(target, 'utf8')]).toEqual(['new', 'old'])
    expect(await modeOf(path)).toBe('600')
  })

  test('leaves nothing behind when it fails', async () => {
    await mkdir(join(directory, 'taken', 'full'), { recursive: true })
    await expect(writeFileAtomically(join(directory, 'taken'), 'text')).rejects.toMatchObject({ syscall: 'rename' })
    await expect(writeFileAtomically(join(directory, 'none', 'file'), 'text')).rejects.toMatchObject({ code: 'ENOENT' })
    const wrong = 5 as unknown as string
    await expect(writeFileAtomically(join(directory, 'file'), wrong)).rejects.toThrow(TypeError)
    expect(await readdir(directory)).toEqual(['taken'])
  })

  test('never shows a part to who reads meanwhile, and leaves no other file', async () => {
    const path = join(directory, 'file')
    const content = (turn: number) => `${turn};`.repeat(5_000)
    await writeFileAtomically(path, content(0))
    let stop = false
    let reads = 0
    const reader = (async () => {
      while (!stop) {
        const text = await readFile(path, 'utf8')
        expect(text).toBe(content(Number.parseInt(text, 10)))
        reads += 1
      }
    })()
    for (let turn = 1; turn <= 500; turn += 1) await writeFileAtomically(path, content(turn))
    stop = true
    await reader
    expect(reads).toBeGreaterThan(100)
    expect(await readdir(directory)).toEqual(['file'])
  })

  test('may be called for one file many times at once: one of them wins whole', async () => {
    const path = join(directory, 'file')
    const contents = Array.from({ length: 20 }, (_, index) => String(index).repeat(1_000))
    await Promise.all(contents.map((content) => writeFileAtomically(path, content)))
    expect(contents).toContain(await readFile(path, 'utf8'))
    expect(await readdir(directory)).toEqual(['file'])
  })
})

describe('making a private folder', () => {
  test.each(['000', '022', '277'])('gives it its mode under umask %s', async (umask) => {
    const path = join(directory, 'private')
    withUmask(umask, `makePrivateDirectory(${JSON.stringify(path)})`)
    expect(await modeOf(path)).toBe('700')
  })

  test('makes those above it, closes one that was open, and may be repeated', async () => {
    const path = join(directory, 'a', 'b')
    await mkdir(path, { recursive: true, mode: 0o755 })
    await makePrivateDirectory(path)
    await makePrivateDirectory(path)
    expect(await modeOf(path)).toBe('700')
    await makePrivateDirectory(join(directory, 'c', 'd', 'e'))
    expect(await modeOf(join(directory, 'c', 'd', 'e'))).toBe('700')
  })
})
