import { format, inspect } from 'node:util'

/** Everything that printing `thing` in any usual way would show, hidden properties and chains of causes included. */
export function printed(thing: unknown): string {
  const parts = [
    inspect(thing, { showHidden: true, depth: Number.POSITIVE_INFINITY, getters: true, maxArrayLength: null }),
    inspect(thing, { showHidden: true, depth: Number.POSITIVE_INFINITY, customInspect: false }),
    format('%s %o %O', thing, thing, thing),
    String(thing),
    // BigInt has no JSON; what stands beside one in an object has.
    JSON.stringify(thing, (_, value) => (typeof value === 'bigint' ? `${value}` : value)) ?? '',
  ]
  walk(thing, parts, new Set())
  return parts.join('\n')
}

/** Own properties, symbols and those that are not enumerable, all the way down; bytes as text and as base64. */
function walk(thing: unknown, parts: string[], seen: Set<unknown>): void {
  if (typeof thing !== 'object' || thing === null) {
    parts.push(String(thing))
    return
  }
  if (seen.has(thing)) return
  seen.add(thing)
  if (ArrayBuffer.isView(thing)) {
    const bytes = Buffer.from(thing.buffer, thing.byteOffset, thing.byteLength)
    parts.push(bytes.toString('utf8'), bytes.toString('base64'))
    return
  }
  for (const key of Reflect.ownKeys(thing)) {
    parts.push(String(key))
    walk(Reflect.get(thing, key), parts, seen)
  }
}
