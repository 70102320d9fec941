/** `npm test`: the real servers where they may be installed, then every check and every test. */
import { setupDebian } from './setup-debian.ts'
import { setupPython } from './setup-python.ts'
import { holdAll } from './steps.ts'

const { said } = await setupDebian((line) => console.log(`Debian packages: ${line}`))
console.log(`Debian packages: ${said}`)
for (const line of await setupPython()) console.log(line)
await holdAll(process.argv.slice(2))
