import { Command } from 'commander'
import { systemClock } from '../../base/clock.ts'
import { type Service, startService } from '../../server/service.ts'
import { type Config, expectLoaded } from '../config.ts'
import { openProcessLog, type ProcessLog } from '../logger.ts'
import { openProviders } from '../open-providers.ts'
import { pluginInputOf } from '../plugin-input.ts'
import { loadRunConfig, type RancherFlags } from '../rancher-mode.ts'
import { endingBySignal } from '../signals.ts'
import { buildInfo } from '../version.ts'

interface RunFlags extends RancherFlags {
  readonly config?: string
}

export function runCommand(): Command {
  return new Command('run')
    .description('start the service')
    .option('--config <file>', 'configuration file')
    .option('--namespace <name>', 'Rancher mode: serve the Secrets of this namespace, without a configuration file')
    .option('--kubeconfig <file>', 'Rancher mode: how to reach the cluster from outside')
    .option('--secret-names <names>', 'Rancher mode: serve only these, with commas between them')
    .option('--skip-artifacts', 'Rancher mode: write no host files')
    .option('--disable-mtls', 'Rancher mode: plain http on loopback, without asking who reads')
    .option('--debug', 'log at debug level')
    .option('--debug-level <number>', 'with --debug: 6 and more log at trace level')
    .action(async (flags: RunFlags) => run(flags))
}

async function run(flags: RunFlags): Promise<void> {
  const loaded = expectLoaded(await loadRunConfig({ file: flags.config, env: process.env, cwd: process.cwd() }, flags))
  const { config } = loaded
  const output = openProcessLog(config.log.level, systemClock)
  const { log } = output
  for (const warning of loaded.warnings) log.warn({}, warning)
  const ending = endingBySignal(output)
  try {
    const service = await start(config, output)
    const { hosts, port, admin } = service
    log.info({ hosts, port, admin, config: loaded.file, ...buildInfo() }, 'listening')
    await ending.signalled
    await service.stop()
  } finally {
    output.flush()
    ending[Symbol.dispose]()
  }
}

async function start(config: Config, { log }: ProcessLog): Promise<Service> {
  const clock = systemClock
  const providers = await openProviders(config.providers, { log, clock }, config.accounts)
  const { openAccounts: openToAll, ...rest } = config
  const accounts = new Map(
    [...config.accounts].map(([name, entry]) => {
      const pluginInput = pluginInputOf(name, config)
      return [name, { ...entry, ...(pluginInput !== undefined && { pluginInput }) }]
    }),
  )
  return startService({ config: { ...rest, accounts, openToAll }, providers, clock, log, ...buildInfo() })
}
