import {configCommand} from './src/cli/commands/config.ts'
await configCommand().parseAsync(process.argv)
