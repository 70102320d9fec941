import { access, mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Command } from 'commander'
import { stringify } from 'yaml'
import { writeFileAtomically } from '../../base/atomic-file.ts'
import { GmsaError } from '../../base/errors.ts'
import { importEcs } from '../import/ecs.ts'
import { importGmsad } from '../import/gmsad.ts'
import type { Imported, Note } from '../import/imported.ts'
import { print } from '../print.ts'

interface ImportFlags {
  readonly output: string
  readonly force?: boolean
}

/** A configuration file of this kind has some hundred lines. */
const MAX_BYTES = 1024 * 1024
const SERVICE_FILE = 'gmsa-account-provider.yaml'
const AGENT_FILE = 'agent.yaml'

/** `import gmsad` and `import ecs`. */
export function importCommand(): Command {
  const command = new Command('import').description("make our configuration files of another tool's")
  const add = (name: string, description: string, run: (text: string) => Imported | Promise<Imported>) =>
    command
      .command(name)
      .description(description)
      .argument('<file>', 'its configuration')
      .option('-o, --output <folder>', `where to write ${SERVICE_FILE} and ${AGENT_FILE}`, '.')
      .option('--force', 'replace files that are there')
      .action(async (file: string, flags: ImportFlags) => write(file, await run(await readConfig(file)), flags))
  add('gmsad', 'of gmsad, as in /etc/gmsad.conf', importGmsad)
  add('ecs', 'of credentials-fetcher: ecs.config, its own file or its environment', (text) =>
    importEcs(text, readQuietly),
  )
  return command
}

const readQuietly = (path: string) => readBytes(path).catch(() => undefined)

const readConfig = async (file: string) => (await readBytes(file)).toString('utf8').replace(/^\uFEFF/, '')

async function readBytes(file: string): Promise<Buffer> {
  const bytes = await readFile(file).catch((error: NodeJS.ErrnoException) => {
    throw new GmsaError('REQUEST_INVALID', `${file}: can't be read (${error.code})`)
  })
  if (bytes.length > MAX_BYTES) throw new GmsaError('REQUEST_INVALID', `${file}: larger than ${MAX_BYTES} bytes`)
  return bytes
}

async function write(source: string, { service, agent, notes }: Imported, flags: ImportFlags): Promise<void> {
  const files = [
    [join(flags.output, SERVICE_FILE), service],
    [join(flags.output, AGENT_FILE), agent],
  ] as const
  for (const [path] of files) if (!flags.force) await expectAbsent(path)
  try {
    await mkdir(flags.output, { recursive: true })
    for (const [path, document] of files) {
      await writeFileAtomically(path, `# Made of ${source}\n${stringify(document, { lineWidth: 0 })}`, 0o644)
    }
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException
    throw new GmsaError('REQUEST_INVALID', `${flags.output}: can't be written (${code})`, { cause: error })
  }
  const lines = [...files.map(([path]) => `${path} written`), ...notes.map((note) => describe(source, note))]
  print(lines.map((line) => `${line}\n`).join(''))
}

async function expectAbsent(path: string): Promise<void> {
  const missing = await access(path).then(
    () => false,
    () => true,
  )
  if (!missing)
    throw new GmsaError('REQUEST_INVALID', `${path}: there already`, { hint: 'give another --output, or --force' })
}

function describe(source: string, { option, line, advice }: Note): string {
  return `${line === undefined ? source : `${source}:${line}`}: ${option}: ${advice}`
}
