import { readFile } from 'node:fs/promises'
import { parseDocument } from 'yaml'
import { GmsaError } from '../base/errors.ts'
import type { DomainFacts } from '../gmsa/credential-spec.ts'
import { compareWithDomain, judgeCredentialSpec, type SpecProblem } from '../gmsa/credential-spec-check.ts'
import type { Finding } from './findings.ts'

/** More than any credential spec needs. */
const MAX_BYTES = 256 * 1024

/**
 * What there is to say of a credential spec in a file, JSON or YAML: one finding that it is fine, or one for each
 * problem. With `facts` it is compared with the directory too. Never rejects.
 */
export async function judgeSpecFile(file: string, facts?: DomainFacts): Promise<Finding[]> {
  try {
    const document = await readDocument(file)
    const problems = [...judgeCredentialSpec(document), ...(facts ? compareWithDomain(document, facts) : [])]
    if (problems.length > 0) return problems.map(findingOf)
    const detail = facts ? `${file}: well formed, and as the directory has it` : `${file}: well formed`
    return [{ subject: 'credential spec', state: 'ok', detail }]
  } catch (error) {
    if (!(error instanceof GmsaError)) throw error
    return [{ subject: 'credential spec', state: 'failed', detail: error.message, code: error.code }]
  }
}

function findingOf({ path, problem, hint }: SpecProblem): Finding {
  const detail = path === '' ? problem : `${path} ${problem}`
  return { subject: 'credential spec', state: 'failed', detail, ...(hint !== undefined && { hint }) }
}

async function readDocument(file: string): Promise<unknown> {
  const bytes = await readFile(file).catch((error: NodeJS.ErrnoException) => {
    throw new GmsaError('REQUEST_INVALID', `${file}: can't be read (${error.code})`)
  })
  return parseSpecDocument(bytes, file)
}

/**
 * The document in a credential spec's file, JSON or YAML; a byte order mark, as Windows' editors write it, is passed
 * over. Throws REQUEST_INVALID with line and column, without quoting the text.
 */
export function parseSpecDocument(bytes: Buffer, file: string): unknown {
  if (bytes.length > MAX_BYTES) throw new GmsaError('REQUEST_INVALID', `${file}: more than ${MAX_BYTES} bytes`)
  const parsed = parseDocument(textOf(bytes))
  const [error] = parsed.errors
  if (!error) return withoutAliases(() => parsed.toJS({ maxAliasCount: 0 }), file)
  const { line, col } = error.linePos?.[0] ?? { line: 1, col: 1 }
  throw new GmsaError('REQUEST_INVALID', `${file}:${line}:${col}: neither JSON nor YAML (${error.code})`)
}

/** Nobody needs them here, and with few of them a small file becomes a large document. */
function withoutAliases(read: () => unknown, file: string): unknown {
  try {
    return read()
  } catch {
    throw new GmsaError('REQUEST_INVALID', `${file}: YAML aliases are not taken`)
  }
}

/** PowerShell's Out-File writes UTF-16 unless told otherwise. */
function textOf(bytes: Buffer): string {
  const isUtf16 = bytes[0] === 0xff && bytes[1] === 0xfe
  return new TextDecoder(isUtf16 ? 'utf-16le' : 'utf-8').decode(bytes)
}
