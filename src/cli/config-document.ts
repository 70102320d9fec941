import type { Path } from './config-problem.ts'

// What parsing leaves is of any shape. These look into it without a cast, and never see a prototype's members.

/** Whether the value is a mapping. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The value itself when it is a mapping, else an empty one. */
export function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  return isRecord(value) ? value : {}
}

/** A member of a mapping's own; nothing for `constructor` and the like. */
export function own(record: Readonly<Record<string, unknown>>, key: unknown): unknown {
  return typeof key === 'string' && Object.hasOwn(record, key) ? record[key] : undefined
}

/** The part of the document at `path`. */
export function valueAt(document: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (part, segment) => (Array.isArray(part) ? part[Number(segment.slice(1, -1))] : own(asRecord(part), segment)),
    document,
  )
}

/** The members that have a value. */
export function given(members: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined))
}
