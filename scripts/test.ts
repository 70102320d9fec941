/** `npm test`: the real servers where they may be installed, then every check and every test. */
import { setupDebian } from './setup-debian.ts'
import { setupMoto } from './setup-moto.ts'
import { holdAll } from './steps.ts'

const { said } = await setupDebian((line) => console.log(`Debian packages: ${line}`))
console.log(`Debian packages: ${said}`)
console.log(`moto: ${await setupMoto()}`)
await holdAll(process.argv.slice(2))
