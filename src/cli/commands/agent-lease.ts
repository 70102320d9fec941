import { Command } from 'commander'
import type { AgentConfig } from '../../agent/config.ts'
import { listLeases, removeLease } from '../../agent/lease-removal.ts'
import { GmsaError } from '../../base/errors.ts'
import { type AgentFlags, loadAgent } from '../agent-flags.ts'
import { print } from '../print.ts'
import { formatTable } from '../table.ts'

interface LeaseFlags extends AgentFlags {
  readonly json?: boolean
}

/** `agent lease list` and `agent lease remove`. */
export function leaseCommand(): Command {
  const command = new Command('lease').description('leases: tickets in the layout of credentials-fetcher')
  command
    .command('list')
    .description('show the leases that there are, and which of them the configuration names')
    .option('--config <file>', "the agent's configuration file")
    .option('--json', 'as JSON')
    .action(async (_flags: LeaseFlags, self: Command) => list(self.optsWithGlobals()))
  command
    .command('remove')
    .description('remove a lease that the configuration does not name any more: its files and its empty folders')
    .argument('<id>', "the lease's ID")
    .option('--config <file>', "the agent's configuration file")
    .action(async (id: string, _flags: LeaseFlags, self: Command) => remove(id, self.optsWithGlobals()))
  return command
}

/** Throws CONFIG_INVALID where there is no folder of leases. */
async function load(flags: AgentFlags): Promise<{ config: AgentConfig; directory: string }> {
  const { config } = await loadAgent(flags)
  const { leases: directory } = config
  if (directory !== undefined) return { config, directory }
  throw new GmsaError('CONFIG_INVALID', 'leases: the configuration names no folder of leases')
}

const namedIn = ({ outputs }: AgentConfig, id: string) => outputs.some(({ lease }) => lease?.lease === id)

async function list({ json = false, ...flags }: LeaseFlags): Promise<void> {
  const { config, directory } = await load(flags)
  const leases = (await listLeases(directory)).map((each) => ({ ...each, configured: namedIn(config, each.lease) }))
  if (json) {
    print(`${JSON.stringify({ directory, leases }, null, 2)}\n`)
    return
  }
  const rows = leases.map(({ lease, gmsas, configured }) => {
    return [lease, configured ? 'configured' : 'left over', gmsas.join(', ') || '-']
  })
  print(formatTable([['lease', 'state', 'gMSAs'], ...rows]))
}

async function remove(id: string, flags: LeaseFlags): Promise<void> {
  const { config, directory } = await load(flags)
  if (namedIn(config, id)) {
    throw new GmsaError('REQUEST_INVALID', 'lease ID: an account of the configuration names this lease', {
      hint: 'take ccache.lease from the account first, and restart the agent: it would make the lease anew',
    })
  }
  if (config.disabled.size > 0) {
    const [[name] = ['']] = config.disabled
    throw new GmsaError('CONFIG_INVALID', `accounts.${name}: wrong, so that it is not clear which leases are in use`, {
      hint: 'agent check names the problems',
    })
  }
  const { removed, kept } = await removeLease(directory, id)
  const lines = [
    ...removed.map((path) => `removed  ${path}`),
    ...kept.map((path) => `kept     ${path}: nothing of a lease`),
  ]
  print(lines.length === 0 ? 'there is no such lease\n' : lines.map((line) => `${line}\n`).join(''))
}
