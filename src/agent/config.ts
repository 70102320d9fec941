/** What an output is for: taking tickets, logging on, or a ready ticket-granting ticket. */
export type OutputKind = 'acceptor' | 'initiator' | 'ccache'

/** The agent's configuration as used: defaults filled in, paths absolute, durations in milliseconds. */
export interface AgentConfig {
  /** Origins such as `https://gmsa.example.com:8443`; at least one. */
  readonly servers: readonly string[]
  readonly tls: IdentityFiles
  /** How long all addresses together may take to answer. */
  readonly timeout: number
  /** How long the service may hold a request until there is something new; 0: never. */
  readonly wait: number
  /** The service is asked at least this often. */
  readonly checkInterval: number
  /** So long after the keys were due to change without an answer the agent is not ready any more. */
  readonly grace: number
  /** `required`: not to get the port is an error, and no mere warning. */
  readonly status?: { readonly host: string; readonly port: number; readonly required: boolean }
  /** Where the metrics are written for node_exporter. */
  readonly textfile?: string
  /** The folder of all leases; absolute. */
  readonly leases?: string
  /** Files and folders between colons; absent: /etc/krb5.conf. */
  readonly krb5Config?: string
  readonly outputs: readonly OutputConfig[]
  /** Accounts whose section is wrong, and what is wrong with it. */
  readonly disabled: ReadonlyMap<string, readonly string[]>
}

/** Paths of PEM files: the client's certificate and key, and the CA of the service. */
export interface IdentityFiles {
  readonly certificate: string
  readonly key: string
  readonly ca: string
}

/** One file that the agent keeps fresh. */
export interface OutputConfig {
  readonly kind: OutputKind
  /** The label: in logs, metrics and hooks. */
  readonly name: string
  /** As the service calls it. */
  readonly account: string
  readonly file: string
  /** Permission bits. */
  readonly mode: number
  /** Name or number; absent: the agent's own. */
  readonly owner?: string
  readonly group?: string
  /** Only these; none: all of the account's. */
  readonly principals: readonly string[]
  /** How long a key stays in the file after it left force. */
  readonly keepPrevious: number
  /** For a ccache: what is asked of the KDC. */
  readonly ticket?: TicketConfig
  /** For a ccache: where `file` stands in the layout of credentials-fetcher. */
  readonly lease?: LeasePlace
  readonly onChange?: HookConfig
}

export type KeytabConfig = OutputConfig & { readonly kind: 'acceptor' | 'initiator' }
export type CcacheConfig = OutputConfig & { readonly kind: 'ccache' }

/** A ticket's place among the leases. */
export interface LeasePlace {
  /** The folder of all leases; absolute. */
  readonly directory: string
  readonly lease: string
  /** The gMSA's name without its `$`. */
  readonly gmsa: string
}

/** In ms. */
export interface TicketConfig {
  readonly lifetime: number
  /** Absent: not renewable. */
  readonly renewLifetime?: number
  readonly forwardable: boolean
}

/** What happens after a file has changed. */
export type HookConfig = CommandHook | SignalHook

export interface CommandHook {
  /** The program and its arguments; no shell in between. */
  readonly command: readonly [program: string, ...args: string[]]
  readonly timeout: number
}

export interface SignalHook {
  readonly signal: NodeJS.Signals
  /** Holds the number of the process. */
  readonly pidFile: string
}
