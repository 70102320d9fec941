import { writeFile } from 'node:fs/promises'
import { aesSha1StringToKey } from '../../src/crypto/string-to-key.ts'
import { utf16ToUtf8 } from '../../src/gmsa/managed-password.ts'
import type { AgentRig } from './agent-rig.ts'
import { type FakeKdc, honestKdc, startKdc } from './kdc.ts'

/** A KDC of the rig's directory, which takes the key in force of each gMSA at the rig's time. */
export interface DirectoryKdc extends AsyncDisposable {
  readonly kdc: FakeKdc
  /** A krb5.conf that leads to it. */
  readonly krb5Config: string
}

/** Starts it for gMSAs of these names, and of the names in other cases. */
export async function startDirectoryKdc(at: AgentRig, accounts = ['web01', 'sql01']): Promise<DirectoryKdc> {
  const now = at.directory.generationAt(at.clock.now())
  const keys = new Map<string, Uint8Array>()
  for (const generation of [now, now + 1]) {
    const password = utf16ToUtf8(at.directory.passwordOf(generation))
    for (const account of accounts) {
      const salt = Buffer.from(saltOf(account))
      keys.set(`${account} ${generation}`, await aesSha1StringToKey(32, password, salt))
    }
  }
  const kdc = await startKdc((request) => {
    const account = request.client.toLowerCase().replace(/\$$/, '')
    const key = () => keys.get(`${account} ${at.directory.generationAt(at.clock.now())}`) ?? new Uint8Array(32)
    return honestKdc({ now: at.clock.now, key, salt: saltOf(account) })(request)
  })
  const krb5Config = at.path('krb5.conf')
  await writeFile(krb5Config, `[realms]\n AD.TEST = {\n  kdc = ${kdc.kdc.host}:${kdc.kdc.port}\n }\n`)
  return { kdc, krb5Config, [Symbol.asyncDispose]: () => kdc[Symbol.asyncDispose]() }
}

const saltOf = (account: string) => `AD.TESThost${account}.ad.test`
