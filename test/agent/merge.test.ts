import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type MergeInput, mergeKeytab } from '../../src/agent/merge.ts'
import { Secret } from '../../src/base/secret.ts'
import { encodeKeytab, type KeytabEntry } from '../../src/kerberos/keytab.ts'
import { parsePrincipal } from '../../src/kerberos/principal.ts'
import { keysOf } from '../fakes/agent-rig.ts'

const HOUR = 3_600_000
const NOW = Date.UTC(2026, 5, 1)
const KEEP = 10 * HOUR + 300_000
const SPN = 'HTTP/web01.ad.test@AD.TEST'
const OWN = 'web01$@AD.TEST'

interface Wanted {
  readonly name?: string
  readonly kvno: number
  readonly enctype?: 17 | 18
  /** Ms since 1970 at which the key comes into force; 0: not said. */
  readonly start?: number
  /** Tells one key from another. */
  readonly key?: number
}

function entry({ name = SPN, kvno, enctype = 18, start = 0, key = kvno }: Wanted): KeytabEntry {
  const bytes = new Uint8Array(enctype === 18 ? 32 : 16).fill(key)
  return { principal: parsePrincipal(name), kvno, enctype, timestamp: start / 1000, key: new Secret(bytes) }
}

const merge = (input: Partial<MergeInput>) =>
  mergeKeytab({ existing: [], fresh: [], use: 'acceptor', now: NOW, keepPrevious: KEEP, ...input })
const kvnos = (entries: readonly KeytabEntry[]) => entries.map(({ kvno }) => kvno)

describe('an acceptor keytab', () => {
  test('K3: is the answer itself where there was no file', () => {
    const fresh = [5, 4].flatMap((kvno) =>
      [18, 17].map((enctype) => entry({ kvno, enctype: enctype as 17, start: NOW })),
    )
    const { entries, behind } = merge({ fresh })
    expect(encodeKeytab(entries).equals(encodeKeytab(fresh))).toBe(true)
    expect(behind).toBe(false)
  })

  test.each([
    ['just before', KEEP - 1000, [6, 5]],
    ['when', KEEP, [6]],
  ])(
    'K3: keeps a key that the service forgot until tickets under it have ended: %s they do',
    (_when, age, expected) => {
      const fresh = [entry({ kvno: 6, start: NOW - age })]
      const { entries } = merge({ existing: [entry({ kvno: 5, start: NOW - 40 * HOUR })], fresh })
      expect(kvnos(entries)).toEqual(expected)
    },
  )

  test('K3: a key whose follower has no time counts from when the follower first stood in the file', () => {
    const first = merge({ existing: [entry({ kvno: 5 })], fresh: [entry({ kvno: 6 })] }).entries
    expect(kvnos(first)).toEqual([6, 5])
    const later = (age: number) => merge({ existing: first, fresh: [entry({ kvno: 6 })], now: NOW + age }).entries
    expect(kvnos(later(KEEP - 1000))).toEqual([6, 5])
    expect(kvnos(later(KEEP))).toEqual([6])
  })

  test('K3: no key of ours stays under kvno 0', () => {
    expect(kvnos(merge({ existing: [entry({ kvno: 0, key: 1 })], fresh: [entry({ kvno: 6 })] }).entries)).toEqual([6])
  })

  test('K4: the next key does not push out the one in force', () => {
    const fresh = [entry({ kvno: 7, start: NOW + 300_000 })]
    expect(kvnos(merge({ existing: [entry({ kvno: 6, start: NOW - 90 * HOUR })], fresh }).entries)).toEqual([7, 6])
  })

  test('K9: other principals stay as they are and where they are', () => {
    const others = ['nfs/x@AD.TEST', 'sql01$@AD.TEST', 'HTTP/WEB01.ad.test@AD.TEST'].map((name) =>
      entry({ name, kvno: 0, key: 9 }),
    )
    const [one, two, three] = others
    const existing = [one, entry({ kvno: 5, start: NOW }), two, three].filter((each) => each !== undefined)
    const { entries } = merge({ existing, fresh: [entry({ kvno: 6, start: NOW })] })
    expect(keysOf(entries)).toEqual([
      'nfs/x@AD.TEST 0 18',
      `${SPN} 6 18`,
      `${SPN} 5 18`,
      'sql01$@AD.TEST 0 18',
      'HTTP/WEB01.ad.test@AD.TEST 0 18',
    ])
  })

  test('K14: an enctype that the answer lacks stays as long as its key is in force', () => {
    const existing = [entry({ kvno: 6, start: NOW }), entry({ kvno: 6, enctype: 17, start: NOW })]
    expect(keysOf(merge({ existing, fresh: [entry({ kvno: 6, start: NOW })] }).entries)).toEqual([
      `${SPN} 6 18`,
      `${SPN} 6 17`,
    ])
    const fresh = [entry({ kvno: 7, start: NOW })]
    expect(keysOf(merge({ existing, fresh, now: NOW + KEEP }).entries)).toEqual([`${SPN} 7 18`])
  })

  test('of two keys under one number the service is right', () => {
    const { entries } = merge({ existing: [entry({ kvno: 6, key: 1 })], fresh: [entry({ kvno: 6, key: 2 })] })
    expect(entries.map(({ key }) => key.reveal()[0])).toEqual([2])
  })

  test('R4: an older answer takes nothing away, until it is to be believed', () => {
    const existing = [entry({ kvno: 7, start: NOW }), entry({ kvno: 6, start: NOW - HOUR })]
    const fresh = [entry({ kvno: 6, start: NOW - HOUR }), entry({ kvno: 5, start: NOW - 2 * HOUR })]
    const held = merge({ existing, fresh })
    expect([kvnos(held.entries), held.behind]).toEqual([[7, 6, 5], true])
    expect(kvnos(merge({ existing, fresh, takeBack: true }).entries)).toEqual([6, 5])
  })
})

describe('an initiator keytab', () => {
  const initiate = (input: Partial<MergeInput>) => merge({ use: 'initiator', ...input })
  const own = (wanted: Wanted) => entry({ name: OWN, ...wanted })

  test('K5: holds the key in force alone, for kinit takes the highest version', () => {
    const existing = [own({ kvno: 6, start: NOW - HOUR })]
    expect(kvnos(initiate({ existing, fresh: [own({ kvno: 7, start: NOW })] }).entries)).toEqual([7])
  })

  test('R4: a lower version changes nothing until it is to be believed', () => {
    const existing = [entry({ name: 'nfs/x@AD.TEST', kvno: 3 }), own({ kvno: 7 })]
    const fresh = [own({ kvno: 1 })]
    const held = initiate({ existing, fresh })
    expect(held).toEqual({ entries: existing, behind: true })
    expect(keysOf(initiate({ existing, fresh, takeBack: true }).entries)).toEqual(['nfs/x@AD.TEST 3 18', `${OWN} 1 18`])
  })
})

/** What happens to an account, its service and its agent: each with the hours that pass before it. */
const steps = fc.array(
  fc.record({
    hours: fc.integer({ min: 0, max: 30 }),
    what: fc.constantFrom('agent', 'rotation', 'skip', 'service restarts'),
    times: fc.boolean(),
  }),
  { minLength: 1, maxLength: 40 },
)

test('K3: whatever happens, no key is lost while a ticket under it can be alive', () => {
  fc.assert(
    fc.property(steps, (happened) => {
      let now = NOW
      let file: readonly KeytabEntry[] = [entry({ name: 'nfs/x@AD.TEST', kvno: 2 })]
      /** All keys there were: each is in force from its start to the next one's. */
      const keys = [{ kvno: 3, start: NOW - 100 * HOUR, seen: false }]
      let remembered = 1
      for (const { hours, what, times } of happened) {
        now += hours * HOUR
        const last = keys.at(-1) ?? { kvno: 0 }
        if (what === 'rotation' || what === 'skip') {
          keys.push({ kvno: last.kvno + (what === 'skip' ? 2 : 1), start: now, seen: false })
          remembered += 1
        } else if (what === 'service restarts') remembered = 1
        else {
          const known = keys.slice(-remembered).toReversed()
          const fresh = known.map(({ kvno, start }) => entry({ kvno, start: times ? start : 0 }))
          file = merge({ existing: file, fresh, now }).entries
          for (const key of keys.slice(-remembered)) key.seen = true
          expect(merge({ existing: file, fresh, now }).entries).toEqual(file)
          expect(file[0]?.kvno).toBe(2)
          const held = new Set(kvnos(file.slice(1)))
          keys.forEach(({ kvno, seen }, index) => {
            const ended = (keys[index + 1]?.start ?? Number.POSITIVE_INFINITY) + KEEP
            if (seen && now < ended) expect(held).toContain(kvno)
          })
          expect(held.size).toBe(file.length - 1)
        }
      }
    }),
    { numRuns: 500 },
  )
})
