/**
 * Reads a keytab again and again, as any program that takes tickets does, until it is told to stop; then says how often,
 * and what was wrong. Started with the file, its mode and its owner as `MODE UID GID`.
 */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { parseKeytab } from '../../src/kerberos/keytab.ts'

const [file = '', wished = ''] = process.argv.slice(2)
const problems = new Set<string>()
let reads = 0
let seen = ''
let replaced = 0

function read(): void {
  const handle = openSync(file, 'r')
  try {
    const { mode, uid, gid, ino } = fstatSync(handle)
    const owner = `${(mode & 0o7777).toString(8)} ${uid} ${gid}`
    if (owner !== wished) problems.add(`found with ${owner}`)
    const entries = parseKeytab(readFileSync(handle))
    if (entries.length === 0) problems.add('empty')
    // What is cut off between two keys is still a keytab, but then one version has fewer of them.
    const keys = Map.groupBy(entries, ({ kvno }) => kvno).values()
    if (new Set(keys.map(({ length }) => length)).size > 1) problems.add('a part')
    if (String(ino) !== seen) replaced += 1
    seen = String(ino)
  } finally {
    closeSync(handle)
  }
}

function round(): void {
  for (let count = 0; count < 20; count++) {
    reads += 1
    try {
      read()
    } catch (error) {
      problems.add(String(error))
    }
  }
  // Four of these leave the writer some of the processor.
  setTimeout(round, 3)
}

process.on('message', () => {
  process.send?.({ reads, replaced, problems: [...problems] })
  process.exit()
})
round()
