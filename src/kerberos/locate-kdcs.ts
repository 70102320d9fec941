import { GmsaError } from '../base/errors.ts'
import { askDns, orderRecords, type Resolve, type ServerRecord } from '../base/srv.ts'
import { KDC_PORT, type Kdc, type KdcList, type Transport, UDP_PREFERENCE_LIMIT } from './kdc.ts'
import { readKrb5Conf } from './krb5-conf.ts'

/** The file of krb5.conf unless KRB5_CONFIG says otherwise. */
export const KRB5_CONFIG = '/etc/krb5.conf'

export interface LocateOptions {
  readonly realm: string
  /** Files and folders between colons, as the variable KRB5_CONFIG has them. Default /etc/krb5.conf. */
  readonly config?: string | undefined
  /** Numbers from 0 to below 1. */
  readonly random: () => number
  readonly resolve?: Resolve
}

/**
 * The KDCs of a realm, best first, as MIT's library finds them: those of `[realms]` in krb5.conf where it names any,
 * else by the SRV records of the realm unless `dns_lookup_kdc` is off. `udp_preference_limit` is taken too.
 *
 * Rejects with STORE_UNAVAILABLE, not-found, where there is none, and with CONFIG_INVALID for a broken krb5.conf.
 */
export async function locateKdcs({ realm, config, random, resolve = askDns }: LocateOptions): Promise<KdcList> {
  const conf = await readKrb5Conf(config ?? KRB5_CONFIG)
  const limit = Number(conf.first('libdefaults', 'udp_preference_limit') ?? Number.NaN)
  const udpPreferenceLimit = Number.isSafeInteger(limit) ? limit : UDP_PREFERENCE_LIMIT
  const named = conf.all('realms', realm, 'kdc')
  if (named.length > 0) {
    const kdcs = named.flatMap((text) => parseKdc(text) ?? [])
    if (kdcs.length > 0) return { kdcs, udpPreferenceLimit }
    throw notFound(`krb5.conf has only KDCs for ${realm} that are reached over neither UDP nor TCP`)
  }
  if (!isTrue(conf.first('libdefaults', 'dns_lookup_kdc') ?? 'true')) {
    throw notFound(`krb5.conf names no KDC for ${realm}, and dns_lookup_kdc is off`)
  }
  return { kdcs: await lookUpKdcs(realm, random, resolve), udpPreferenceLimit }
}

/** `host`, `host:port`, `[address]:port`; undefined for a URL, behind which is a proxy. */
function parseKdc(text: string): Kdc | undefined {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^\s:[\]/]+))(?::(\d{1,5}))?$/.exec(text) ?? []
  const host = bracketed ?? plain
  if (host === undefined || Number(port) > 0xffff) return undefined
  return { host, port: port === undefined ? KDC_PORT : Number(port) }
}

/** As profile_get_boolean has it. */
const isTrue = (text: string) => /^(?:y|yes|true|t|1|on)$/i.test(text)

/** RFC 4120 7.2.3.2: one name for each transport; the same host and port in both is one KDC. */
async function lookUpKdcs(realm: string, random: () => number, resolve: Resolve): Promise<Kdc[]> {
  const transports = ['udp', 'tcp'] as const
  const answers = await Promise.allSettled(transports.map((each) => resolve(`_kerberos._${each}.${realm}`)))
  const found = new Map<string, ServerRecord & { transports: Transport[] }>()
  for (const [index, transport] of transports.entries()) {
    const answer = answers[index]
    for (const record of answer?.status === 'fulfilled' ? answer.value : []) {
      const key = `${record.name.toLowerCase()}:${record.port}`
      const known = found.get(key)
      if (known) known.transports.push(transport)
      else found.set(key, { ...record, transports: [transport] })
    }
  }
  const order = orderRecords([...found.values()], random)
  if (order.length === 0) {
    const failed = answers.find((each) => each.status === 'rejected')
    const code = failed?.reason instanceof Error && 'code' in failed.reason ? `: ${String(failed.reason.code)}` : ''
    throw notFound(`no KDC found: SRV _kerberos._udp.${realm} and _kerberos._tcp.${realm}${code}`, failed?.reason)
  }
  return order.map(({ name, port, transports: [transport, ...more] }) => ({
    host: name,
    port,
    ...(transport && more.length === 0 && { transport }),
  }))
}

function notFound(message: string, cause?: unknown): GmsaError {
  const hint = "name the KDCs in krb5.conf, or check that this machine asks the domain's DNS servers"
  return new GmsaError('STORE_UNAVAILABLE', message, { reason: 'not-found', hint, cause })
}
