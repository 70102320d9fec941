import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openIdentity } from '../../src/agent/identity.ts'
import { silentLog } from '../../src/base/log.ts'
import { makePki, type PkiFiles, writePki } from '../fakes/pki.ts'

let directory: string
let files: PkiFiles
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'gmsa-identity-'))
  files = await writePki(directory, await makePki())
})
afterEach(() => rm(directory, { recursive: true, force: true }))

test('certificates and key are parsed once for all connections, until a file changes', async () => {
  const identity = openIdentity({ ...files.client, ca: files.ca }, silentLog)
  const first = await identity.load()
  expect((await identity.load()).connections).toBe(first.connections)
  await writePki(directory, await makePki())
  const second = await identity.load()
  expect(second.connections).not.toBe(first.connections)
  expect((await identity.load()).connections).toBe(second.connections)
})
