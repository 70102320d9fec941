import { chmod, mkdir, mkdtemp, readdir, readlink, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { writeFileAtomically } from '../../../src/base/atomic-file.ts'
import { file } from '../../../src/providers/file/index.ts'
import type { ProviderFixture } from '../../contract/provider-contract.ts'

type Members = Readonly<Record<string, unknown>>
type Content = string | Uint8Array

/** One way to lay an account's record out in the folder of secrets. */
export interface Form {
  put(directory: string, secret: string, members: Readonly<Record<string, Content>>, document?: Content): Promise<void>
  remove(directory: string, secret: string): Promise<void>
  readonly document: (members: Members) => string
}

const json = (members: Members) => JSON.stringify(members)
const none = () => ''

function documentForm(ending: string, document: (members: Members) => string): Form {
  return {
    document,
    put: (directory, secret, _members, content = '') => writeFileAtomically(join(directory, secret + ending), content),
    remove: (directory, secret) => unlink(join(directory, secret + ending)),
  }
}

/** Every way there is. Volumes are swapped the way the kubelet does it. */
export const FORMS = {
  yaml: documentForm('.yaml', stringify),
  yml: documentForm('.yml', stringify),
  json: documentForm('.json', json),
  'folder of members': {
    document: none,
    async put(directory, secret, members) {
      const folder = join(directory, secret)
      await mkdir(folder, { recursive: true, mode: 0o700 })
      for (const old of await readdir(folder)) if (!(old in members)) await unlink(join(folder, old))
      for (const [name, content] of Object.entries(members)) await writeFileAtomically(join(folder, name), content)
    },
    remove: (directory, secret) => rm(join(directory, secret), { recursive: true }),
  },
  'Kubernetes volume for each account': {
    document: none,
    put: (directory, secret, members) => swapVolume(join(directory, secret), members),
    remove: (directory, secret) => rm(join(directory, secret), { recursive: true }),
  },
  'Kubernetes volume of documents': {
    document: json,
    put: (directory, secret, _members, content = '') => updateVolume(directory, { [`${secret}.json`]: content }),
    remove: (directory, secret) => updateVolume(directory, { [`${secret}.json`]: undefined }),
  },
  'projected Kubernetes volume with a folder for each account': {
    document: none,
    put: (directory, secret, members) => updateVolume(directory, { [secret]: members }),
    remove: (directory, secret) => updateVolume(directory, { [secret]: undefined }),
  },
} satisfies Record<string, Form>

type Entry = Content | Readonly<Record<string, Content>>
/** What each volume of {@link updateVolume} holds. */
const volumes = new Map<string, Record<string, Entry>>()

/** A volume of several entries, of which some change at a time. */
async function updateVolume(directory: string, changes: Record<string, Entry | undefined>): Promise<void> {
  const entries: Record<string, Entry> = {}
  for (const [name, entry] of Object.entries({ ...volumes.get(directory), ...changes })) {
    if (entry !== undefined) entries[name] = entry
  }
  volumes.set(directory, entries)
  await swapVolume(directory, entries)
}

let generation = 0

/** One update of a volume: a new folder, the link `..data` swapped to it, links for its entries, the old folder gone. */
export async function swapVolume(volume: string, entries: Readonly<Record<string, Entry>>): Promise<void> {
  await mkdir(volume, { recursive: true, mode: 0o700 })
  generation += 1
  const folder = `..2026_01_01_${generation}`
  await mkdir(join(volume, folder), { mode: 0o700 })
  for (const [name, entry] of Object.entries(entries)) await writeEntry(join(volume, folder, name), entry)
  const old = await readlink(join(volume, '..data')).catch(() => undefined)
  await symlink(folder, join(volume, '..data_tmp'))
  await rename(join(volume, '..data_tmp'), join(volume, '..data'))
  const links = (await readdir(volume)).filter((name) => !name.startsWith('..'))
  for (const name of Object.keys(entries)) {
    if (!links.includes(name)) await symlink(join('..data', name), join(volume, name))
  }
  for (const name of links) if (!(name in entries)) await unlink(join(volume, name))
  if (old !== undefined) await rm(join(volume, old), { recursive: true })
}

async function writeEntry(path: string, entry: Entry): Promise<void> {
  if (typeof entry === 'string' || entry instanceof Uint8Array) return await writeFile(path, entry, { mode: 0o600 })
  await mkdir(path, { mode: 0o700 })
  for (const [name, content] of Object.entries(entry)) await writeFile(join(path, name), content, { mode: 0o600 })
}

export interface SecretsFolder extends AsyncDisposable {
  readonly directory: string
}

/** A folder of secrets that is deleted afterwards. `parent`: on a file system of one's choice. */
export async function secretsFolder(parent = tmpdir()): Promise<SecretsFolder> {
  const base = await mkdtemp(join(parent, 'gmsa-file-'))
  const directory = join(base, 'secrets')
  await mkdir(directory, { mode: 0o700 })
  return {
    directory,
    async [Symbol.asyncDispose]() {
      volumes.delete(directory)
      await chmod(base, 0o700)
      await rm(base, { recursive: true, force: true })
    },
  }
}

/** The file provider over one form, for the contract. */
export async function fileFixture(form: Form): Promise<ProviderFixture> {
  const folder = await secretsFolder()
  const { directory } = folder
  return {
    open: (context) => file.open('local', { directory }, context),
    async put(secret, members) {
      const texts = Object.entries(members).map(([name, value]) => [name, String(value)] as const)
      await form.put(directory, secret, Object.fromEntries(texts), form.document(members))
    },
    async putBytes(secret, password) {
      const document = Buffer.concat([Buffer.from('{"password":"'), password, Buffer.from('"}')])
      await form.put(directory, secret, { username: 'svc', password, domainName: 'ad.test' }, document)
    },
    remove: (secret) => form.remove(directory, secret),
    makeUnreachable: () => rename(directory, `${directory}-gone`),
    restore: () => rename(`${directory}-gone`, directory),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  }
}
