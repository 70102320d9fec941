/** `npm test`: the real servers where they may be installed, then every check and every test. */
import { setupDebian } from './setup-debian.ts'
import { setupHelm } from './setup-helm.ts'
import { setupPython } from './setup-python.ts'
import { holdAll } from './steps.ts'

const [debian, helm] = await Promise.all([
  setupDebian((line) => console.log(`Debian packages: ${line}`)),
  setupHelm((line) => console.log(`helm: ${line}`)),
])
console.log(`Debian packages: ${debian.said}`)
console.log(`helm: ${helm}`)
for (const line of await setupPython()) console.log(line)
await holdAll(process.argv.slice(2))
