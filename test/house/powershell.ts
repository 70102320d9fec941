import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Language, type Node, Parser } from 'web-tree-sitter'
import { root } from './source.ts'

await Parser.init()
const grammar = await readFile(join(root, 'node_modules/tree-sitter-powershell/tree-sitter-powershell.wasm'))
const parser = new Parser().setLanguage(await Language.load(grammar))

/** A command as it is called: `Get-Content -LiteralPath $file -Raw`. */
export interface Call {
  readonly name: string
  /** Without their dash. */
  readonly parameters: readonly string[]
  /** Counted from 1. */
  readonly line: number
}

const below = (node: Node, type: string): Node[] => node.descendantsOfType(type).filter((each) => each !== null)
const lineOf = (node: Node) => node.startPosition.row + 1

function parse(script: string): Node {
  const tree = parser.parse(script)
  if (!tree) throw new Error('not parsed')
  return tree.rootNode
}

/** Where the script is no PowerShell, as `LINE: TEXT`; empty where all of it is. */
export function faultsOf(script: string): string[] {
  const tree = parse(script)
  const wrong = (node: Node): Node[] =>
    node.isError || node.isMissing ? [node] : node.children.flatMap((child) => (child?.hasError ? wrong(child) : []))
  return tree.hasError ? wrong(tree).map((node) => `${lineOf(node)}: ${node.text.split('\n')[0]}`) : []
}

/** The functions that a script has, with the parameters of each. */
export function functionsOf(script: string): Map<string, readonly string[]> {
  return new Map(
    below(parse(script), 'function_statement').map((each) => {
      const [name] = below(each, 'function_name')
      const parameters = below(each, 'script_parameter').flatMap((one) => below(one, 'variable').slice(0, 1))
      return [name?.text ?? '', parameters.map(({ text }) => text.slice(1))]
    }),
  )
}

/** Every command that is called by name, wherever it stands: in strings and script blocks too. */
export function callsOf(script: string): Call[] {
  return below(parse(script), 'command').flatMap((command) => {
    const name = command.childForFieldName('command_name')
    if (name?.type !== 'command_name') return []
    const elements = command.childForFieldName('command_elements')?.children ?? []
    const parameters = elements.filter((each) => each?.type === 'command_parameter')
    return [{ name: name.text, parameters: parameters.map((each) => each?.text.slice(1) ?? ''), line: lineOf(command) }]
  })
}
