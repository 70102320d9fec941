/** `npm run check`: everything that needs no real server, in seconds. */
import { holdAll } from './steps.ts'

await holdAll(['--project', 'unit', ...process.argv.slice(2)])
