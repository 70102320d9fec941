import { GmsaError } from '../base/errors.ts'

/** Where a value of the configuration was written. */
export interface Origin {
  /** The file's path, `environment GMSA_PROVIDER_…`, a flag, or `Rancher mode`. */
  readonly source: string
  /** Counted from 1; present for files. */
  readonly line?: number
  readonly column?: number
  /** What a relative path at this place is relative to. */
  readonly directory: string
}

/** Keys and list positions from the root of the configuration. */
export type Path = readonly string[]

/** One thing wrong with the configuration. Holds names and what was expected, never the value of an option. */
export interface Problem {
  readonly source: string
  readonly line?: number
  readonly column?: number
  /** As {@link formatPath} writes it; empty for the document as a whole. */
  readonly path: string
  readonly message: string
}

/** Where each part of a document was written, by path. */
export class Origins {
  readonly #places = new Map<string, { readonly origin: Origin; readonly key: Origin }>()
  readonly #root: Origin

  constructor(root: Origin) {
    this.#root = root
  }

  /** Notes where the value at `path` stands, and where its key does. */
  set(path: Path, origin: Origin, key: Origin = origin): void {
    this.#places.set(pointer(path), { origin, key })
  }

  /** Replaces what is known of `path` and everything below it. */
  replace(path: Path, origin: Origin): void {
    const start = `${pointer(path)}/`
    for (const place of this.#places.keys()) if (place.startsWith(start)) this.#places.delete(place)
    this.set(path, origin)
  }

  /** The place of the value at `path`, or of the nearest part around it that was written. */
  value(path: Path): Origin {
    return this.#nearest(path)?.origin ?? this.#root
  }

  /** The same for the key. */
  key(path: Path): Origin {
    return this.#nearest(path)?.key ?? this.#root
  }

  #nearest(path: Path): { readonly origin: Origin; readonly key: Origin } | undefined {
    for (let length = path.length; length > 0; length--) {
      const place = this.#places.get(pointer(path.slice(0, length)))
      if (place) return place
    }
    return undefined
  }
}

/** A problem of the thing written at `origin`. */
export function problemAt(origin: Origin, path: Path, message: string): Problem {
  const { source, line, column } = origin
  return {
    source,
    ...(line === undefined ? {} : { line }),
    ...(column === undefined ? {} : { column }),
    path: formatPath(path),
    message,
  }
}

/** `gmsa.yaml:3:5: providers.ad.ur1: unknown option, did you mean url?` */
export function formatProblem({ source, line, column, path, message }: Problem): string {
  const place = [source, line, column].filter((part) => part !== undefined).join(':')
  return `${place}: ${path === '' ? '' : `${path}: `}${message}`
}

/** All problems, a line each, as one error of CONFIG_INVALID. */
export function problemsError(problems: readonly Problem[], hint?: string): GmsaError {
  const { length } = problems
  const title = length === 1 ? 'the configuration has a problem' : `the configuration has ${length} problems`
  return new GmsaError('CONFIG_INVALID', [title, ...problems.map(formatProblem)].join('\n  '), hint ? { hint } : {})
}

/** `clients[0].match.uri`. Keys with dots are quoted, and those that no option or account has are not shown. */
export function formatPath(path: Path): string {
  return path.map(formatSegment).join('').replace(/^\./, '')
}

/** Text that is no name at all may be a password that slipped out of its quotes: line and column find it. */
function formatSegment(segment: string): string {
  if (/^\[[0-9]+\]$/.test(segment)) return segment
  if (/^[A-Za-z0-9_*-]{1,64}$/.test(segment)) return `.${segment}`
  return /^[A-Za-z0-9_*.-]{0,64}$/.test(segment) ? `["${segment}"]` : '[?]'
}

function pointer(path: Path): string {
  return path.map((segment) => `/${segment.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
}
