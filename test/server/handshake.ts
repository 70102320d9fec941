import { once } from 'node:events'
import type { SecureVersion } from 'node:tls'
import { expect } from 'vitest'
import type { TestCertificate } from '../fakes/pki.ts'
import type { Rig } from '../fakes/rig.ts'
import { eventually, GOOD, LAST, metric, openWire, put, sendAndClose, type Wire } from './wire.ts'

export const VERSIONS: SecureVersion[] = ['TLSv1.2', 'TLSv1.3']
export const only = (version: SecureVersion) => ({ minVersion: version, maxVersion: version })

/** Everything the server sends to this client, which asks for one credential. */
export function bytesFor(rig: Rig, client: TestCertificate | null, version: SecureVersion): Promise<string> {
  return sendAndClose(rig, LAST, { client, ...only(version) })
}

/** Expects that the server answers with nothing, and counts it under this reason. */
export async function expectRejected(rig: Rig, reason: string, attempt: () => Promise<string>): Promise<void> {
  const before = await metric(rig, 'tls_rejected_total', { reason })
  expect(await attempt()).toBe('')
  await eventually(async () => (await metric(rig, 'tls_rejected_total', { reason })) > before, `rejected as ${reason}`)
}

/** A session ticket, taken from a connection on which a request was answered. */
export async function takeSession(rig: Rig, client: TestCertificate, version: SecureVersion): Promise<Buffer> {
  using wire = await openWire(rig, { client, ...only(version) })
  const ticket = version === 'TLSv1.3' ? once(wire.socket, 'session') : undefined
  wire.write(GOOD)
  expect(await wire.next()).toMatchObject({ status: 200 })
  const [session] = ticket ? await ticket : [wire.socket.getSession()]
  return session as Buffer
}

/** Replaces one of the TLS files, and has the service look at once. */
export async function replace(rig: Rig, path: string, text: string): Promise<void> {
  await put(path, text)
  await rig.service.reloadTls()
}

export async function expectRefusedAndClosed(wire: Wire): Promise<void> {
  const answer = await wire.next()
  expect(answer).toMatchObject({ status: 403, body: '' })
  expect(answer.headers.get('gmsa-error')).toBe('CERTIFICATE_REFUSED')
  expect(answer.headers.get('content-length')).toBe('0')
  expect(answer.headers.get('connection')).toBe('close')
  expect(await wire.rest()).toBe('')
}
