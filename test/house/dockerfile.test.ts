import { describe, expect, test } from 'vitest'
import { environmentOf, every, execForm, parseDockerfile, sourcesOf } from './dockerfile.ts'
import { text } from './source.ts'

const stages = parseDockerfile(text('Dockerfile'))
const image = stages.at(-1) ?? { base: '', alias: undefined, instructions: [] }
const manifest: { version: string; license: string; name: string } = JSON.parse(text('package.json'))

/** The image says which commit it was made from; the package can't know. */
const COMMIT = ['$', '{REVISION}'].join('')

describe('the image', () => {
  test('is built in one stage and shipped in another that has no shell', () => {
    expect(stages).toHaveLength(2)
    expect(image.base).toMatch(/^gcr\.io\/distroless\/nodejs24-debian12:/)
    expect(every(image, 'RUN')).toEqual([])
  })

  test('builds with the very Node that the checkout is tested with', () => {
    const [, version] = /const version = '([\d.]+)'/.exec(text('scripts/run.mjs')) ?? []
    expect(text('Dockerfile')).toContain(`ARG NODE_VERSION=${version}\n`)
  })

  test('runs as a user with a number, not as root', () => {
    expect(every(image, 'USER')).toEqual(['65532:65532'])
  })

  test('starts the program directly, with flat memory', () => {
    expect(execForm(image, 'ENTRYPOINT')).toEqual([
      '/nodejs/bin/node',
      '--max-semi-space-size=2',
      '/app/dist/cli/main.js',
    ])
    expect(environmentOf(image)).toEqual({
      NODE_ENV: 'production',
      MALLOC_ARENA_MAX: '1',
      GMSA_PROVIDER_COMMIT: COMMIT,
    })
  })

  test('carries the labels by which it is known, in agreement with package.json', () => {
    const labels = every(image, 'LABEL').join(' ')
    for (const label of ['title', 'description', 'licenses', 'version', 'revision', 'created']) {
      expect(labels).toContain(`org.opencontainers.image.${label}=`)
    }
    expect(labels).toContain(`title="${manifest.name}"`)
    expect(labels).toContain(`licenses="${manifest.license}"`)
    expect(every(image, 'ARG')).toContain(`VERSION=${manifest.version}`)
  })

  test('is given nothing of the checkout but what .dockerignore lets through', () => {
    const [first, ...allowed] = text('.dockerignore').trim().split('\n')
    expect(first).toBe('*')
    expect(allowed.map((line) => line.replace('!', '')).sort()).toEqual(sourcesOf(stages))
  })
})
