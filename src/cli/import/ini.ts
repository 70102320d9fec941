/** One `name = value` of an INI file. */
export interface Setting {
  readonly section: string
  /** In lower case, as Python's configparser has it; `written` is how it stands in the file. */
  readonly name: string
  readonly written: string
  readonly value: string
  /** Counted from 1. */
  readonly line: number
}

export interface Ini {
  readonly sections: readonly { readonly name: string; readonly line: number }[]
  readonly settings: readonly Setting[]
  /** Lines that are neither a section nor a setting. */
  readonly strays: readonly number[]
}

/**
 * Reads an INI file as Python's configparser does: `=` or `:`, comments in lines of their own, values that go on in
 * indented lines, `%%` for a percent sign. A file without sections, as of shell variables, has all in section ''.
 */
export function parseIni(text: string): Ini {
  const sections: { name: string; line: number }[] = []
  const settings: Setting[] = []
  const strays: number[] = []
  let section = ''
  let open = false
  text.split(/\r?\n/).forEach((row, index) => {
    const line = index + 1
    const content = row.trim()
    if (content === '' || /^[#;]/.test(content)) {
      open = open && content !== ''
      return
    }
    const last = settings.at(-1)
    if (open && last && /^\s/.test(row)) {
      settings[settings.length - 1] = { ...last, value: `${last.value}\n${withoutEscapes(content)}` }
      return
    }
    const [, heading] = /^\[([^\]]+)\]$/.exec(content) ?? []
    const [, name, value = ''] = /^(?:export\s+)?([^=:]+?)\s*[=:]\s*(.*)$/.exec(content) ?? []
    open = heading === undefined && name !== undefined
    if (heading !== undefined) {
      section = heading
      sections.push({ name: section, line })
    } else if (name !== undefined) {
      settings.push({ section, name: name.toLowerCase(), written: name, value: withoutEscapes(value), line })
    } else {
      strays.push(line)
    }
  })
  return { sections, settings, strays }
}

const withoutEscapes = (value: string) => value.replaceAll('%%', '%')

/**
 * Splits a command line into words as a shell would, with quotes and backslashes, and expands nothing (Python's
 * shlex.split). Undefined where a quote is left open.
 */
export function splitWords(text: string): string[] | undefined {
  const words: string[] = []
  let word: string | undefined
  for (let at = 0; at < text.length; at++) {
    const character = text.charAt(at)
    if (/\s/.test(character)) {
      if (word !== undefined) words.push(word)
      word = undefined
    } else if (character === "'" || character === '"') {
      const close = closingQuote(text, at)
      if (close < 0) return undefined
      const inside = text.slice(at + 1, close)
      word = (word ?? '') + (character === '"' ? inside.replace(/\\(["\\])/g, '$1') : inside)
      at = close
    } else if (character === '\\') {
      at += 1
      if (at === text.length) return undefined
      word = (word ?? '') + text.charAt(at)
    } else {
      word = (word ?? '') + character
    }
  }
  return word === undefined ? words : [...words, word]
}

function closingQuote(text: string, open: number): number {
  const quote = text.charAt(open)
  for (let at = open + 1; at < text.length; at++) {
    if (quote === '"' && text.charAt(at) === '\\') at += 1
    else if (text.charAt(at) === quote) return at
  }
  return -1
}
