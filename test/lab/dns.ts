import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { type CliResult, runCli } from '../fakes/cli.ts'
import { program } from './skip.ts'

/** An SRV record as dnsmasq takes it. */
export interface SrvRecord {
  /** `_ldap._tcp.dc._msdcs.ad.test`. */
  readonly name: string
  readonly target: string
  readonly port: number
  readonly priority: number
  readonly weight: number
}

export interface DnsOptions {
  /** Address to listen on, port 53: another loopback address than any other server's. */
  readonly ip: string
  readonly records: readonly SrvRecord[]
  /** Addresses by host name. */
  readonly hosts: Readonly<Record<string, string>>
}

/** A real DNS server (dnsmasq) that knows these names and no others. */
export interface Dns extends AsyncDisposable {
  /** A program and its arguments; what they start asks this server alone, by a private resolv.conf and hosts file. */
  readonly within: readonly string[]
  /** Runs our command there. */
  runCli(args: readonly string[]): Promise<CliResult>
}

/** Starts the server; it ends when disposed. Ask `needs('dns', 'samba')` first: port 53 and the mounts take root. */
export async function startDns({ ip, records, hosts }: DnsOptions): Promise<Dns> {
  const folder = await mkdtemp(join(tmpdir(), 'gmsa-dns-'))
  const resolv = join(folder, 'resolv.conf')
  const hostsFile = join(folder, 'hosts')
  await writeFile(resolv, `nameserver ${ip}\n`)
  await writeFile(hostsFile, '127.0.0.1 localhost\n')
  const args = [
    ...[
      '--keep-in-foreground',
      '--conf-file=/dev/null',
      '--no-resolv',
      '--no-hosts',
      '--bind-interfaces',
      '--user=root',
    ],
    ...['--pid-file=', `--listen-address=${ip}`, '--except-interface=nothing'],
    ...records.map(({ name, target, port, priority, weight }) =>
      ['--srv-host=', [name, target, port, priority, weight].join(',')].join(''),
    ),
    ...Object.entries(hosts).map(([name, address]) => `--host-record=${name},${address}`),
  ]
  const child = spawn(program('dnsmasq') ?? 'dnsmasq', args, { stdio: ['ignore', 'ignore', 'inherit'] })
  await listening(ip, child)
  const mounts = 'mount --bind "$0" /etc/resolv.conf && mount --bind "$1" /etc/hosts && shift && exec "$@"'
  const within = ['unshare', '-m', 'bash', '-c', mounts, resolv, hostsFile]
  return {
    within,
    runCli: (args) => runCli(args, { within }),
    async [Symbol.asyncDispose]() {
      child.kill()
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** It takes TCP as well as UDP, and TCP says when it is there. */
async function listening(ip: string, child: ChildProcess): Promise<void> {
  for (let attempt = 0; attempt < 200 && child.exitCode === null; attempt++) {
    const socket = new Socket()
    const there = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
      socket.connect(53, ip)
    })
    socket.destroy()
    if (there) return
    await pause(50)
  }
  throw new Error(`no DNS server on ${ip}`)
}
