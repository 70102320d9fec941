/** One entry of LDIF: its attributes by their names in lower case, without options such as `;binary`. */
export interface LdifEntry {
  readonly dn: string
  readonly attributes: ReadonlyMap<string, readonly Buffer[]>
}

/** `name: text`, `name:: base64`, `name:< URL`; RFC 2849 allows no blank before the colon. */
const LINE = /^([A-Za-z0-9][A-Za-z0-9.-]*)(?:;[A-Za-z0-9;-]*)?:([:<]?) *(.*)$/s
/** RFC 4648 4, with its padding; may be empty. */
export const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/**
 * The entries of LDIF (RFC 2849) as `ldapsearch` and `ldbsearch` print them: folded lines, comments, values as text or
 * base64; what has no `dn`, such as `search: 2` or a reference, is passed over. Bytes are the caller's to overwrite.
 * Throws RangeError that names the line, never what it says.
 */
export function parseLdif(text: string): LdifEntry[] {
  const entries: LdifEntry[] = []
  let attributes = new Map<string, Buffer[]>()
  const close = () => {
    const [dn] = attributes.get('dn') ?? []
    if (dn) entries.push({ dn: dn.toString('utf8'), attributes })
    attributes = new Map()
  }
  for (const { line, number } of unfold(text)) {
    if (line === '') {
      close()
      continue
    }
    const [, name = '', mark, value = ''] = LINE.exec(line) ?? []
    if (mark === undefined || mark === '<') throw new RangeError(`line ${number} is not LDIF`)
    if (mark === ':' && !BASE64.test(value)) throw new RangeError(`line ${number} is not base64`)
    const key = name.toLowerCase()
    const values = attributes.get(key) ?? []
    values.push(Buffer.from(value, mark === ':' ? 'base64' : 'utf8'))
    attributes.set(key, values)
  }
  close()
  return entries
}

/** Whole lines with the number of their first: one that begins with a blank belongs to the one before. No comments. */
function unfold(text: string): { readonly line: string; readonly number: number }[] {
  const lines: { line: string; number: number }[] = []
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const last = lines.at(-1)
    if (line.startsWith(' ') && last && last.line !== '') last.line += line.slice(1)
    else lines.push({ line, number: index + 1 })
  }
  return lines.filter(({ line }) => !line.startsWith('#'))
}
