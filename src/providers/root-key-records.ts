import { type GmsaError, toGmsaError } from '../base/errors.ts'
import { parseFileTime } from '../gmsa/file-time.ts'
import { isGuid } from '../gmsa/guid.ts'
import type { KdsRootKeys } from '../gmsa/material.ts'
import { type KdsRootKey, type RootKeyFields, rootKeyOf, wipeRootKeys } from '../gmsa/root-key.ts'
import { BASE64, parseLdif } from './ldif.ts'
import { malformed, memberOf, type StoredRecord } from './record-members.ts'

/** Room for hundreds of root keys in the longest form, LDIF with all attributes. */
export const MAX_ROOT_KEY_TEXT = 1024 * 1024
/** Windows looks at no more of them. */
const MAX_ROOT_KEYS = 1_000

/** Makes the error for a problem that was found; the problem quotes nothing. */
type Complain = (problem: string, hint?: string) => GmsaError

/** One of the ways in which root keys are written down. */
interface Form {
  readonly names: Readonly<Record<keyof RootKeyFields, string>>
  readonly encoding: 'base64' | 'hex'
  /** What to do where a member is missing. */
  readonly hint?: string
}

/** A root key as it was found, not yet looked at. */
interface WrittenKey {
  readonly label: string
  readonly members: unknown
  readonly form: Form
}

const OWN: Form = {
  names: {
    id: 'id',
    version: 'version',
    kdfAlgorithm: 'kdfAlgorithm',
    kdfParam: 'kdfParam',
    data: 'data',
    createTime: 'createTime',
    useStartTime: 'useStartTime',
  },
  encoding: 'base64',
}
const ATTRIBUTES: Form['names'] = {
  id: 'name',
  version: 'msKds-Version',
  kdfAlgorithm: 'msKds-KDFAlgorithmID',
  kdfParam: 'msKds-KDFParam',
  data: 'msKds-RootKeyData',
  createTime: 'msKds-CreateTime',
  useStartTime: 'msKds-UseStartTime',
}
/**
 * Without --verbose msKds-KDFParam is left out, whose absence means SHA-256 and would give wrong passwords: then the
 * version is left out as well, and that is an error.
 */
const SAMBA: Form = {
  names: ATTRIBUTES,
  encoding: 'hex',
  hint: 'samba-tool domain kds root-key list --json --verbose --show-secrets',
}
const LDIF: Form = {
  names: ATTRIBUTES,
  encoding: 'base64',
  hint: 'export all attributes of the object, with an account that may read them',
}

/**
 * The root keys in a record's member `rootKeys`: a list of them, or text as {@link parseRootKeys} takes it.
 * Throws MATERIAL_MALFORMED that names the root key and the field, never a value.
 */
export function decodeRootKeys(record: StoredRecord, account: string): KdsRootKeys {
  const complain: Complain = (problem, hint) => malformed(account, `rootKeys: ${problem}`, hint)
  const value = memberOf(record, 'rootKeys')
  if (value === undefined) throw complain('is missing')
  return typeof value === 'string' ? parseRootKeys(value, complain) : collect(keysIn(value, complain), complain)
}

/**
 * Root keys from text: our own JSON, what `samba-tool domain kds root-key list` and `view` print with `--json`, or LDIF
 * of msKds-ProvRootKey objects. Throws what `complain` makes; the text is quoted nowhere.
 */
export function parseRootKeys(text: string, complain: Complain): KdsRootKeys {
  if (text.length > MAX_ROOT_KEY_TEXT) throw complain(`longer than ${MAX_ROOT_KEY_TEXT} characters`)
  const isJson = /^\s*[[{]/.test(text)
  return collect(isJson ? keysIn(parseJson(text, complain), complain) : keysInLdif(text, complain), complain)
}

function parseJson(text: string, complain: Complain): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // The parser's own message quotes what is around the fault.
    throw complain('not valid JSON')
  }
}

/** The root keys of a document: a list, an object with the member `rootKeys`, or one object as Samba's `view` prints. */
function keysIn(document: unknown, complain: Complain): WrittenKey[] {
  const list =
    isObject(document) && !Array.isArray(document) ? (memberOf(document, 'rootKeys') ?? [document]) : document
  if (!Array.isArray(list)) throw complain('expected a list of root keys')
  return list.map((members: unknown, index) => {
    const isSamba = isObject(members) && Object.keys(members).some((name) => name.startsWith('msKds-'))
    return { label: `[${index}]`, members, form: isSamba ? SAMBA : OWN }
  })
}

/** The msKds-ProvRootKey objects of LDIF. One that is named by no GUID is none, as for the directory itself. */
function keysInLdif(text: string, complain: Complain): WrittenKey[] {
  try {
    return parseLdif(text).flatMap(({ dn, attributes }) => {
      const [, id = ''] = /^CN=([^,]+),/i.exec(dn) ?? []
      const classes = attributes.get('objectclass') ?? []
      const isRootKey = classes.length === 0 || classes.some((each) => /^msKds-ProvRootKey$/i.test(`${each}`))
      if (!isGuid(id) || !isRootKey) return []
      const values = Object.values(ATTRIBUTES).map((name) => [name, attributes.get(name.toLowerCase())?.[0]] as const)
      return [{ label: `root key ${id}`, members: { ...Object.fromEntries(values), name: id }, form: LDIF }]
    })
  } catch (error) {
    throw complain(`neither JSON nor LDIF: ${error instanceof RangeError ? error.message : 'not readable'}`)
  }
}

/** Reads them one after the other; when one is refused those before it are overwritten. */
function collect(written: readonly WrittenKey[], complain: Complain): KdsRootKeys {
  if (written.length === 0) throw complain('no root key', 'export the msKds-ProvRootKey objects of the forest')
  if (written.length > MAX_ROOT_KEYS) throw complain(`more than ${MAX_ROOT_KEYS} root keys`)
  const keys: KdsRootKey[] = []
  try {
    for (const each of written) {
      keys.push(readKey(each, (problem, hint) => complain(`${each.label}: ${problem}`, hint)))
      const { id } = keys.at(-1) ?? {}
      if (keys.findIndex((key) => key.id === id) < keys.length - 1) throw complain(`root key ${id} stands there twice`)
    }
  } catch (error) {
    wipeRootKeys(keys)
    throw error
  }
  return { kind: 'kds-root-key', keys }
}

function readKey({ members, form }: WrittenKey, complain: Complain): KdsRootKey {
  if (!isObject(members)) throw complain('expected an object')
  const fields = fieldsOf(members, form, complain)
  try {
    return rootKeyOf(fields)
  } catch (thrown) {
    fields.data.fill(0)
    throw complain(toGmsaError(thrown).message)
  }
}

function fieldsOf(members: StoredRecord, form: Form, complain: Complain): RootKeyFields {
  const { names, encoding, hint } = form
  // A name that is not known could be kdfParam misspelt, and every password would be wrong.
  if (form === OWN && Object.keys(members).some((name) => !Object.hasOwn(names, name))) {
    throw complain(`holds members besides ${Object.values(names).join(', ')}`)
  }
  const member = <T>(field: keyof RootKeyFields, read: (value: unknown) => T | undefined, expected: string): T => {
    const value = memberOf(members, names[field])
    if (value === undefined) throw complain(`${names[field]} is missing`, hint)
    const got = read(value)
    if (got === undefined) throw complain(`${names[field]}: expected ${expected}`)
    return got
  }
  const bytes = (value: unknown) => bytesIn(value, encoding)
  const fields = {
    id: member('id', (value) => (isGuid(textIn(value) ?? '') ? textIn(value) : undefined), 'a GUID of 36 characters'),
    version: member('version', numberIn, 'a number'),
    kdfAlgorithm: member('kdfAlgorithm', textIn, 'text'),
    createTime: member('createTime', timeIn, TIME),
    useStartTime: member('useStartTime', timeIn, TIME),
  }
  const hasParam = memberOf(members, names.kdfParam) !== undefined
  const param = hasParam ? { kdfParam: member('kdfParam', bytes, encoding) } : {}
  return { ...fields, ...param, data: member('data', bytes, encoding) }
}

const TIME = 'a time such as 2026-11-23T20:00:00Z, or a FILETIME'

const isObject = (value: unknown): value is StoredRecord => typeof value === 'object' && value !== null

/** Text, or the bytes of it. */
function textIn(value: unknown): string | undefined {
  if (Buffer.isBuffer(value)) return value.toString('utf8')
  return typeof value === 'string' ? value : undefined
}

/** A number, or its digits. */
function numberIn(value: unknown): number | undefined {
  const digits = typeof value === 'number' ? `${value}` : textIn(value)
  return digits !== undefined && /^[0-9]{1,10}$/.test(digits) ? Number(digits) : undefined
}

/** RFC 3339, or a FILETIME as its digits or as a number; that is right to a few microseconds, which do not matter. */
function timeIn(value: unknown): bigint | undefined {
  const isNumber = typeof value === 'number' && Number.isInteger(value) && value >= 0
  return parseFileTime(isNumber ? `${BigInt(value)}` : (textIn(value) ?? ''))
}

const ENCODINGS = { base64: BASE64, hex: /^(?:[0-9A-Fa-f]{2})*$/ }

/** A copy with room of its own, for what is decoded stands in a pool that others share; that is overwritten. */
function bytesIn(value: unknown, encoding: Form['encoding']): Uint8Array | undefined {
  const isEncoded = typeof value === 'string' && ENCODINGS[encoding].test(value)
  const decoded = isEncoded ? Buffer.from(value, encoding) : value
  if (!Buffer.isBuffer(decoded)) return undefined
  const bytes = Uint8Array.from(decoded)
  decoded.fill(0)
  return bytes
}
