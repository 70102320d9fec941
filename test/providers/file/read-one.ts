// Run on its own, as another user or among other mounts: reads one account and prints what came of it.
import { systemClock } from '../../../src/base/clock.ts'
import { GmsaError } from '../../../src/base/errors.ts'
import { file } from '../../../src/providers/file/index.ts'

const [directory = '', name = ''] = process.argv.slice(2)
const warnings: string[] = []
const ignore = () => {}
const warn = (_fields: object, message: string) => void warnings.push(message)
const log = { trace: ignore, debug: ignore, info: ignore, warn, error: ignore }
await using provider = await file.open('local', { directory }, { log, clock: systemClock })

async function outcome(work: Promise<unknown> | undefined): Promise<string> {
  return await (work ?? Promise.reject(new TypeError('no such ability'))).then(
    () => 'ok',
    (error: unknown) => (error instanceof GmsaError ? error.code : String(error)),
  )
}

const signal = AbortSignal.timeout(5_000)
const probe = await outcome(provider.probe(signal))
const read = await outcome(provider.reads.credential?.({ name, secret: name, options: {} }, signal))
console.log(JSON.stringify({ probe, read, warnings: warnings.length }))
