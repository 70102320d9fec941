/** A fenced block of a page, without the fences. */
export interface Block {
  /** The word after the fence; empty where there is none. */
  readonly language: string
  readonly text: string
  /** Of the opening fence, counted from 1. */
  readonly line: number
}

/** In a list, a fence and what is within are indented. */
const FENCED = /^( *)```(\w*)\n([\s\S]*?)^\1```$/gm

const lineAt = (page: string, index: number) => page.slice(0, index).split('\n').length

export function blocksOf(page: string): Block[] {
  return [...page.matchAll(FENCED)].map(({ 1: indent = '', 2: language = '', 3: text = '', index }) => {
    return { language, text: text.replaceAll(new RegExp(`^${indent}`, 'gm'), ''), line: lineAt(page, index) }
  })
}

/** The page without its blocks; lines stay where they were. */
const outsideBlocks = (page: string) => page.replace(FENCED, (block) => block.replace(/[^\n]/g, ''))

/** Targets of a page's links, and the lines they stand in. */
export function linksOf(page: string): { readonly target: string; readonly line: number }[] {
  const text = outsideBlocks(page).replace(/`[^`\n]*`/g, 'code')
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(({ 1: target = '', index }) => {
    return { target, line: lineAt(text, index) }
  })
}

/** The anchors of a page's headings, as GitHub makes them: lower case, no punctuation, hyphens for spaces. */
export function anchorsOf(page: string): string[] {
  const seen = new Map<string, number>()
  const headings = outsideBlocks(page).matchAll(/^#{1,6} +(.+)$/gm)
  return [...headings].map(([, heading = '']) => {
    const plain = heading.trim().toLowerCase()
    const anchor = plain.replace(/[^\p{L}\p{N}\s_-]/gu, '').replace(/\s/g, '-')
    const before = seen.get(anchor) ?? 0
    seen.set(anchor, before + 1)
    return before === 0 ? anchor : `${anchor}-${before}`
  })
}

const SHELLS = ['', 'sh', 'console', 'powershell']

/**
 * The command lines of a page: those of its shell blocks, after the prompt where there is one, and inline code that
 * starts with one of `programs` and an argument. Continued lines are one; output and here-documents are no commands.
 */
export function commandsOf(page: string, programs: readonly string[]): { readonly words: string[]; line: number }[] {
  const starts = (words: readonly string[]) => programs.some((program) => words.join(' ').startsWith(`${program} `))
  const shown = blocksOf(page)
    .filter(({ language }) => SHELLS.includes(language))
    .flatMap(({ language, text, line }) => {
      const lines = text.replace(/[\\`]\n\s*/g, ' ').split('\n')
      const typed = language === 'console' ? lines.filter((each) => each.startsWith('$ ')) : lines
      return typed.map((each) => ({ code: each.replace(/^\$ /, ''), line }))
    })
  const inline = [...outsideBlocks(page).matchAll(/`([^`\n]+)`/g)].map(({ 1: code = '', index }) => {
    return { code, line: lineAt(page, index) }
  })
  return [...shown, ...inline].flatMap(({ code, line }) =>
    simpleCommands(code)
      .filter(starts)
      .map((words) => ({ words, line })),
  )
}

/** The words of each simple command of a line, up to its redirections; comments are none. */
function simpleCommands(code: string): string[][] {
  const commands: string[][] = [[]]
  let skipping = false
  for (const [token] of code.matchAll(/(?:'[^']*'|"[^"]*"|[^\s'"|;&])+|[|;&]+/g)) {
    if (token.startsWith('#')) break
    if (/^[|;&]/.test(token)) {
      commands.push([])
      skipping = false
    } else if (/^\d?[<>]/.test(token)) skipping = true
    else if (!skipping) commands.at(-1)?.push(token.replace(/['"]/g, ''))
  }
  return commands.filter((words) => words.length > 0)
}

/** A command of a console block, and the lines that follow it: what it prints, or what is typed into it. */
export interface Step {
  readonly command: string
  readonly follows: string
}

export function stepsOf(block: string): Step[] {
  return block
    .replace(/\\\n\s*/g, ' ')
    .split(/^\$ /m)
    .slice(1)
    .map((step) => {
      const [command = '', ...rest] = step.split('\n')
      return { command, follows: rest.join('\n') }
    })
}
