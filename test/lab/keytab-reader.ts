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
    if (parseKeytab(readFileSync(handle)).length === 0) problems.add('empty')
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
