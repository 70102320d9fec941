import { Command } from 'commander'
import { GmsaError } from '../../base/errors.ts'
import { NAMESPACE_PATTERN } from '../../gmsa/account-name.ts'
import { removeHostFiles } from '../../server/host-files.ts'
import { expectLoaded } from '../config.ts'
import { print } from '../print.ts'
import { loadRunConfig, RANCHER_DIRECTORY } from '../rancher-mode.ts'

export function cleanupCommand(): Command {
  return new Command('cleanup')
    .description('remove the host files that run wrote for the CCG plug-in; does nothing where there are none')
    .option('--config <file>', 'configuration file whose ccg section names the directory')
    .option('--directory <directory>', 'base directory of the host files, instead of a configuration file')
    .option('--namespace <name>', 'folder below it; alone: Rancher mode')
    .action(async (flags: { config?: string; directory?: string; namespace?: string }) => {
      const { directory, namespace } = await findDirectory(flags)
      await removeHostFiles(directory, namespace)
      print(`removed the host files in ${directory}/${namespace}\n`)
    })
}

const NAMESPACE = new RegExp(NAMESPACE_PATTERN)

async function findDirectory(flags: { config?: string; directory?: string; namespace?: string }) {
  const namespace = flags.namespace ?? (flags.config ? undefined : process.env['NAMESPACE'])
  if (namespace !== undefined) {
    if (!NAMESPACE.test(namespace)) throw new GmsaError('REQUEST_INVALID', '--namespace: expected a DNS-1123 label')
    return { directory: flags.directory ?? RANCHER_DIRECTORY, namespace }
  }
  const { config } = expectLoaded(await loadRunConfig({ file: flags.config, env: process.env, cwd: process.cwd() }, {}))
  if (!config.ccg)
    throw new GmsaError('REQUEST_INVALID', 'the configuration has no ccg section: there is nothing to remove')
  return config.ccg
}
