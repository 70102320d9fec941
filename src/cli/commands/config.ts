import { Command } from 'commander'
import { stringify } from 'yaml'
import { PROVIDER_TYPES } from '../../providers/index.ts'
import { expectLoaded, type LoadOptions } from '../config.ts'
import { configSchema } from '../config-schema.ts'
import { print, printError } from '../print.ts'
import { loadRunConfig } from '../rancher-mode.ts'

/** What the commands use of the process. */
export interface ConfigCommandHost extends Pick<LoadOptions, 'env' | 'cwd' | 'types'> {
  readonly out: (text: string) => void
  readonly err: (text: string) => void
}

function processHost(): ConfigCommandHost {
  return {
    env: process.env,
    cwd: process.cwd(),
    out: print,
    err: printError,
  }
}

/** `config print` and `config schema`. A configuration that is wrong rejects with a GmsaError of CONFIG_INVALID. */
export function configCommand(host: ConfigCommandHost = processHost()): Command {
  const command = new Command('config').description('show the configuration in effect, or the schema of the file')
  command
    .command('print')
    .description('print the effective configuration as YAML: file, environment and defaults; it holds no secrets')
    .option('--config <file>', 'configuration file')
    .action(async ({ config }: { config?: string }) => host.out(await printConfig(host, config)))
  command
    .command('schema')
    .description('print the JSON Schema of the configuration file, for editors')
    .action(() => host.out(`${JSON.stringify(configSchema(host.types ?? PROVIDER_TYPES), null, 2)}\n`))
  return command
}

async function printConfig(host: ConfigCommandHost, file: string | undefined): Promise<string> {
  const { effective, file: found, warnings } = expectLoaded(await loadRunConfig({ ...host, file }, {}))
  for (const warning of warnings) host.err(`gmsa-account-provider: warning: ${warning}\n`)
  return `# Effective configuration; from ${found ?? 'Rancher mode'}\n${stringify(effective, { lineWidth: 0 })}`
}
