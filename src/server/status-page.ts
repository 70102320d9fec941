import { BlockList, isIP } from 'node:net'
import type { ReadyCheck } from './ready-checks.ts'

/** What the page shows. Nothing of it is a secret. */
export interface Status {
  readonly version: string
  readonly commit: string
  readonly startedAt: Date
  readonly now: Date
  readonly checks: readonly ReadyCheck[]
  readonly accounts: readonly { readonly name: string; readonly provider: string }[]
  /** When each certificate ends, by role. */
  readonly certificates: readonly { readonly role: string; readonly ends: Date }[]
}

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/** Whether a socket's remote address is this machine's own. */
export function isLoopback(address: string | undefined): boolean {
  const plain = address?.replace(/^::ffff:/, '') ?? ''
  const family = isIP(plain)
  return family !== 0 && loopback.check(plain, family === 6 ? 'ipv6' : 'ipv4')
}

/**
 * Whether a `Host` header may name this listener: an address, `localhost`, or the configured name. A web page can make
 * a browser ask under a DNS name of its own that leads here (DNS rebinding), but not under one of these.
 */
export function isOwnHost(header: string | undefined, configured: string): boolean {
  const name = (header ?? '')
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .toLowerCase()
  return isIP(name) !== 0 || name === 'localhost' || (name !== '' && name === configured.toLowerCase())
}

/** The status page: health, stores, accounts and certificates, as HTML without scripts. */
export function renderStatus({ version, commit, startedAt, now, checks, accounts, certificates }: Status): string {
  const checkRows = checks.map(({ name, problem }) => [name, problem === undefined ? 'ok' : `failed: ${problem}`])
  const certificateRows = certificates.map(({ role, ends }) => [role, ends.toISOString(), daysUntil(ends, now)])
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>gmsa-account-provider</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%;margin:0 0 1.5rem}td,th{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ccc}</style>
</head>
<body>
<h1>gmsa-account-provider</h1>
<p>Version ${escapeHtml(version)} (${escapeHtml(commit)}), running since ${startedAt.toISOString()}.</p>
${table('Checks', ['check', 'state'], checkRows)}
${table('Certificates', ['role', 'ends', ''], certificateRows)}
${table(
  'Accounts',
  ['account', 'provider'],
  accounts.map(({ name, provider }) => [name, provider]),
)}
<p><a href="/readyz?verbose">readyz</a> · <a href="/metrics">metrics</a></p>
</body>
</html>
`
}

function table(title: string, head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (tag: string, cells: readonly string[]) => {
    return `<tr>${cells.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join('')}</tr>`
  }
  return `<h2>${title}</h2>\n<table>${line('th', head)}${rows.map((row) => line('td', row)).join('')}</table>`
}

function daysUntil(end: Date, now: Date): string {
  return `${Math.floor((end.getTime() - now.getTime()) / 86_400_000)} days left`
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (each) => `&#${each.charCodeAt(0)};`)
}
