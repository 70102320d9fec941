import { Command } from 'commander'
import { systemClock } from '../../base/clock.ts'
import { silentLog } from '../../base/log.ts'
import { withDeadline } from '../../broker/deadline.ts'
import { loadTls, type TlsMaterial } from '../../server/tls.ts'
import { describeMaterial, readMaterial } from '../account-probe.ts'
import { describeClient, describeServer } from '../certificate-report.ts'
import { type Config, expectLoaded, type Loaded, type ProviderConfig } from '../config.ts'
import { judgeSpecFile } from '../credential-spec-report.ts'
import { type Finding, findingOf, printFindings } from '../findings.ts'
import { judgeNodeCa, nodeCaWarning } from '../node-ca.ts'
import { openProvider } from '../open-providers.ts'
import { loadRunConfig } from '../rancher-mode.ts'

interface CheckFlags {
  readonly config?: string
  readonly json?: boolean
  readonly offline?: boolean
  readonly credspec?: string
  readonly nodeCa?: string
}

export function checkCommand(): Command {
  return new Command('check')
    .description('validate the configuration, then try every certificate, provider and account; non-zero if any fails')
    .option('--config <file>', 'configuration file')
    .option('--json', 'print the findings as JSON')
    .option('--offline', 'only validate the configuration: touch no certificate and no store')
    .option('--credspec <file>', 'only judge this credential spec: JSON, or a GMSACredentialSpec manifest')
    .option('--node-ca <file>', 'only judge this CA: can a Windows node trust it, and not for every server')
    .action(async (flags: CheckFlags) => {
      const findings = await look(flags)
      printFindings(findings, flags.json ?? false)
      if (findings.some((each) => each.state === 'failed')) process.exitCode = 1
    })
}

function look(flags: CheckFlags): Promise<Finding[]> {
  if (flags.credspec !== undefined) return judgeSpecFile(flags.credspec)
  if (flags.nodeCa !== undefined) return judgeNodeCa(flags.nodeCa, systemClock.now())
  return checkAll(flags)
}

async function checkAll({ config: file, offline = false }: CheckFlags): Promise<Finding[]> {
  const loaded = expectLoaded(await loadRunConfig({ file, env: process.env, cwd: process.cwd() }, {}))
  return [configurationFinding(loaded), ...(offline ? [] : await tryAll(loaded.config))]
}

function configurationFinding({ file, warnings, config }: Loaded): Finding {
  const said = `${count(config.providers.size, 'provider')}, ${count(config.accounts.size, 'account')}`
  const detail = [file ?? 'Rancher mode', said, ...warnings].join('; ')
  return { subject: 'configuration', state: warnings.length > 0 ? 'warning' : 'ok', detail }
}

function count(number: number, thing: string): string {
  return `${number} ${thing}${number === 1 ? '' : 's'}`
}

async function tryAll(config: Config): Promise<Finding[]> {
  const findings = await tryCertificates(config)
  for (const [name, options] of config.providers) findings.push(...(await tryProvider(name, options, config)))
  return findings
}

async function tryCertificates({ tls, ccg }: Config): Promise<Finding[]> {
  const now = systemClock.now()
  let material: TlsMaterial | undefined
  const findings: Finding[] = []
  if (tls) {
    const look = async () => {
      material = await loadTls({ files: tls, clock: systemClock, log: silentLog })
      return describeServer(material, now, ccg !== undefined)
    }
    findings.push(await findingOf('tls', look))
  }
  const unlimited = ccg && material && nodeCaWarning(material.authorities.value.certificates)
  if (unlimited) findings.push(unlimited)
  if (ccg?.client) {
    const { client } = ccg
    findings.push(await findingOf('ccg client', () => describeClient(client, material, now)))
  }
  return findings
}

async function tryProvider(name: string, options: ProviderConfig, config: Config): Promise<Finding[]> {
  const { store: timeout } = config.timeouts
  const findings: Finding[] = []
  const open = async () => {
    await using provider = await openProvider(name, options, { log: silentLog, clock: systemClock }, config)
    await withDeadline((signal) => provider.probe(signal), timeout, systemClock)
    for (const [account, { provider: its, secret = account, options: more }] of config.accounts) {
      if (its !== name || account === '*') continue
      const look = async () =>
        describeMaterial(await readMaterial(provider, { name: account, secret, options: more }, timeout))
      findings.push(await findingOf(`account ${account}`, look))
    }
    return `${options.type}: answers`
  }
  return [await findingOf(`provider ${name}`, open), ...findings]
}
