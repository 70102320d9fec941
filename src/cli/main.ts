#!/usr/bin/env -S node --max-semi-space-size=2
import { Command, CommanderError } from 'commander'
import { GmsaError } from '../base/errors.ts'
import { print, printError } from './print.ts'
import { buildVersion } from './version.ts'

/** Each command is loaded only when it is the one: `run` need not wait for what `certs` leans on. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  run: async () => (await import('./commands/run.ts')).runCommand(),
  check: async () => (await import('./commands/check.ts')).checkCommand(),
  doctor: async () => (await import('./commands/doctor.ts')).doctorCommand(),
  certs: async () => (await import('./commands/certs.ts')).certsCommand(),
  agent: async () => (await import('./commands/agent.ts')).agentCommand(),
  keytab: async () => (await import('./commands/keytab.ts')).keytabCommand(),
  credspec: async () => (await import('./commands/credspec.ts')).credspecCommand(),
  import: async () => (await import('./commands/import.ts')).importCommand(),
  config: async () => (await import('./commands/config.ts')).configCommand(),
  cleanup: async () => (await import('./commands/cleanup.ts')).cleanupCommand(),
}

const EXIT = { done: 0, failed: 1, usage: 2, configuration: 78 } as const

async function makeProgram(name: string | undefined): Promise<Command> {
  const program = new Command('gmsa-account-provider')
    .description('Hands gMSA impersonation credentials to Windows nodes and Linux sidecars over mutual TLS.')
    .version(buildVersion(), '-V, --version')
    .option('--debug', 'show the stack of an error')
    .showSuggestionAfterError()
    .configureOutput({
      writeOut: print,
      writeErr: printError,
      outputError: (text, write) => write(text.replace(/^error: /, 'gmsa-account-provider: error: ')),
    })
  const wanted = name !== undefined && Object.hasOwn(COMMANDS, name) ? [name] : Object.keys(COMMANDS)
  for (const each of wanted) {
    const command = await COMMANDS[each]?.()
    if (command) program.addCommand(command)
  }
  // Commander would end the process itself: usage errors are to end with 2.
  return passOn(program.exitOverride())
}

/** What holds for a command holds for those below it, which were made before they had it. */
function passOn(command: Command): Command {
  for (const each of command.commands) passOn(each.copyInheritedSettings(command))
  return command
}

/** Runs the command line; resolves with the exit code. Never rejects. */
async function main(args: readonly string[]): Promise<number> {
  try {
    const program = await makeProgram(args.find((arg) => !arg.startsWith('-')))
    await program.parseAsync(args, { from: 'user' })
    return Number(process.exitCode ?? EXIT.done)
  } catch (thrown) {
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? EXIT.done : EXIT.usage
    report(thrown, args.includes('--debug'))
    return thrown instanceof GmsaError && thrown.code === 'CONFIG_INVALID' ? EXIT.configuration : EXIT.failed
  }
}

function report(thrown: unknown, withStack: boolean): void {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown))
  printError(`gmsa-account-provider: error: ${error.message}\n`)
  if (error instanceof GmsaError && error.hint) printError(`gmsa-account-provider: hint: ${error.hint}\n`)
  if (withStack || !(error instanceof GmsaError)) printError(`${error.stack}\n`)
}

process.exitCode = await main(process.argv.slice(2))
