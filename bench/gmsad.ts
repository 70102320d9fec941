import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const KEYS = 40

/** Passwords of 256 random bytes as UTF-8 and one salt, as gmsad's own caller gives them; then the rate. */
const SCRIPT = `
import importlib.metadata, os, sys, time
from gmsad import enctypes
derive = getattr(enctypes, sys.argv[1])
passwords = [os.urandom(256).decode("utf-16-le", "replace").encode() for _ in range(${KEYS})]
started = time.perf_counter()
for password in passwords:
    derive(password, b"CONTOSO.COMhostweb01.contoso.com")
print(importlib.metadata.version("gmsad"), ${KEYS} / (time.perf_counter() - started))
`

const FUNCTIONS = {
  aes256: 'aes256_cts_hmac_sha1_96_string_to_key',
  aes128: 'aes128_cts_hmac_sha1_96_string_to_key',
} as const

/**
 * Keys per second that gmsad's own string-to-key makes, on one thread as it runs them, and gmsad's version. Undefined
 * where the Python that GMSAD_PYTHON names (absent: python3) has no gmsad.
 */
export async function gmsadRate(
  enctype: keyof typeof FUNCTIONS,
): Promise<{ version: string; perSecond: number } | undefined> {
  const python = process.env['GMSAD_PYTHON'] ?? 'python3'
  try {
    const { stdout } = await promisify(execFile)(python, ['-c', SCRIPT, FUNCTIONS[enctype]], { timeout: 60_000 })
    const [version = '', rate = ''] = stdout.trim().split(' ')
    return { version, perSecond: Number(rate) }
  } catch {
    return undefined
  }
}
