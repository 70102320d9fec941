import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { type ErrorCode, GmsaError } from '../../src/base/errors.ts'
import type { Log } from '../../src/base/log.ts'
import type { Account, Provider, ProviderContext } from '../../src/providers/provider.ts'
import { printed } from './printed.ts'

type Members = Readonly<Record<string, unknown>>

/** A store of the type under test, with what a test has to do to it behind its provider's back. */
export interface ProviderFixture extends AsyncDisposable {
  /** Opens a provider on the store. */
  open(context: ProviderContext): Promise<Provider>
  /** The store holds exactly these members under its own name `secret` from now on. */
  put(secret: string, members: Members): Promise<void>
  remove(secret: string): Promise<void>
  /** The store gives no answer until `restore`. */
  makeUnreachable(): Promise<void>
  restore(): Promise<void>
  /** Holds a record whose `password` is these bytes. Absent where the store itself refuses what is not UTF-8. */
  putBytes?(secret: string, password: Uint8Array): Promise<void>
  /** Reads get no answer, and no refusal either, until `restore`. Absent where the store can't be held up. */
  hang?(): Promise<void>
}

export interface ContractOptions {
  /** Members can be nothing but text: a file, a key of a Kubernetes Secret. */
  readonly textOnly?: boolean
  /** The account options that this type of provider needs. */
  readonly options?: Account['options']
}

const PASSWORD = 'pa55-Kanari €ß🔑 "\\\'#: {'
const GOOD = { username: 'svc-ccg', password: PASSWORD, domainName: 'ad.test' }
const LONG = 'pa55-Kanari'.repeat(100)
/** What may stand in no error and no log line: parts of every value above, also in base64. */
const CANARIES = [/pa55/i, /kanari/i, /cGE1NS1LYW5hcm/, /svc-ccg/]
const STORE_CODES: readonly ErrorCode[] = ['STORE_UNAVAILABLE', 'STORE_DENIED', 'STORE_TIMEOUT']

/** Records that must be refused, by what is wrong with them; with the member that the message has to name. */
const BROKEN_TEXT: readonly (readonly [string, string, Members])[] = [
  ...['username', 'password', 'domainName'].flatMap((member) => [
    [`lacks ${member}`, member, Object.fromEntries(Object.entries(GOOD).filter(([key]) => key !== member))] as const,
    [`has an empty ${member}`, member, { ...GOOD, [member]: '' }] as const,
    [`has a ${member} that is too long for a log-on`, member, { ...GOOD, [member]: LONG }] as const,
    [`has a NUL in ${member}`, member, { ...GOOD, [member]: 'pa55\0Kanari' }] as const,
  ]),
  ['has a control character in username', 'username', { ...GOOD, username: 'pa55\u0007' }],
  ['has a line break in username', 'username', { ...GOOD, username: 'pa55\nKanari' }],
  ['has a C1 control character in domainName', 'domainName', { ...GOOD, domainName: 'pa55\u0085' }],
  ['has a tab in domainName', 'domainName', { ...GOOD, domainName: 'pa55\tKanari' }],
  // Two: where members are files, an editor's one is dropped.
  ['has line breaks after the password', 'password', { ...GOOD, password: 'pa55\n\n' }],
  ['has a CR LF after the password, and another', 'password', { ...GOOD, password: 'pa55\r\n\r\n' }],
]
const BROKEN_TYPES: readonly (readonly [string, string, Members])[] = [
  ['has a number for password', 'password', { ...GOOD, password: 5_512_345 }],
  ['has null for username', 'username', { ...GOOD, username: null }],
  ['has a list for password', 'password', { ...GOOD, password: ['pa55-Kanari'] }],
  ['has an object for domainName', 'domainName', { ...GOOD, domainName: { pa55: 'Kanari' } }],
  ['has a truth value for password', 'password', { ...GOOD, password: true }],
]

/** What every provider owes the broker. Call it at the top of the provider's test, once for each form of its store. */
export function providerContract(
  name: string,
  makeFixture: () => Promise<ProviderFixture>,
  { textOnly = false, options = {} }: ContractOptions = {},
): void {
  const account = (secret: string): Account => ({ name: `name-of-${secret}`, secret, options })

  describe(`${name} keeps the provider contract:`, () => {
    let fixture: ProviderFixture
    let provider: Provider
    let lines: unknown[]

    beforeEach(async () => {
      fixture = await makeFixture()
      lines = []
      provider = await fixture.open({ log: logTo(lines), clock: systemClock })
    })
    afterEach(async () => {
      await provider[Symbol.asyncDispose]()
      await fixture[Symbol.asyncDispose]()
      expectNoCanary(lines)
    })

    const read = (secret: string, signal = AbortSignal.timeout(10_000)) => {
      if (!provider.reads.credential) throw new Error('offers no credential')
      return provider.reads.credential(account(secret), signal)
    }

    test('it reads a known account', async () => {
      await fixture.put('one', GOOD)
      const { kind, username, domainName, password } = await read('one')
      expect({ kind, username, domainName }).toEqual({ kind: 'credential', username: 'svc-ccg', domainName: 'ad.test' })
      expect(password.revealText()).toBe(PASSWORD)
    })

    test('it says so when there is no such account', async () => {
      await fixture.put('one', GOOD)
      await failure(read('two'), 'ACCOUNT_NOT_FOUND')
    })

    test('it sees that an account was removed', async () => {
      await fixture.put('one', GOOD)
      await read('one')
      await fixture.remove('one')
      await vi.waitFor(() => failure(read('one'), 'ACCOUNT_NOT_FOUND'), { timeout: 5_000 })
    })

    test('an unreachable store is not an absent account, and comes back', async () => {
      await fixture.put('one', GOOD)
      await fixture.makeUnreachable()
      await failure(read('one'), ...STORE_CODES)
      await failure(read('two'), ...STORE_CODES)
      await fixture.restore()
      await vi.waitFor(() => read('one'), { timeout: 5_000 })
    })

    test('its probe tells whether the store can be reached', async () => {
      await provider.probe(AbortSignal.timeout(5_000))
      await fixture.makeUnreachable()
      await failure(provider.probe(AbortSignal.timeout(5_000)), ...STORE_CODES)
      await fixture.restore()
      await vi.waitFor(() => provider.probe(AbortSignal.timeout(5_000)), { timeout: 5_000 })
    })

    test.each([...BROKEN_TEXT, ...(textOnly ? [] : BROKEN_TYPES)])(
      'it refuses a record that %s, and names the member but not the value',
      async (_what, member, members) => {
        await fixture.put('broken', members)
        const error = await failure(read('broken'), 'MATERIAL_MALFORMED')
        expect(error.message).toContain(member)
        expectNoCanary(error)
      },
    )

    test('it refuses a password that is not UTF-8, where the store can hold one', async () => {
      await fixture.putBytes?.('broken', Buffer.from('pa55\xff\xfeKanari', 'latin1'))
      if (!fixture.putBytes) return
      expectNoCanary(await failure(read('broken'), 'MATERIAL_MALFORMED'))
    })

    test('a broken record spoils no other account', async () => {
      await fixture.put('broken', { ...GOOD, password: '' })
      await fixture.put('one', GOOD)
      await failure(read('broken'), 'MATERIAL_MALFORMED')
      await read('one')
    })

    test('it does not read when the signal has ended already', async () => {
      await fixture.put('one', GOOD)
      const reason = new Error('gave up')
      expectEndedBy(reason, await rejection(read('one', AbortSignal.abort(reason))))
    })

    test('it stops waiting when the signal ends, where the store can be held up', async () => {
      await fixture.put('one', GOOD)
      if (!fixture.hang) return
      await fixture.hang()
      const controller = new AbortController()
      const waiting = rejection(read('one', controller.signal))
      const reason = new Error('gave up')
      setTimeout(() => controller.abort(reason), 50)
      const started = performance.now()
      expectEndedBy(reason, await waiting)
      expect(performance.now() - started).toBeLessThan(2_000)
      await fixture.restore()
    })

    test('what it hands out shows no secret when printed', async () => {
      await fixture.put('one', GOOD)
      const text = printed(await read('one'))
      expect(text).toContain('[secret]')
      for (const canary of CANARIES.slice(0, 3)) expect(text).not.toMatch(canary)
      expect(printed(provider)).not.toMatch(/pa55|kanari/i)
    })

    test('it sees a rotated record', async () => {
      await fixture.put('one', GOOD)
      await read('one')
      await fixture.put('one', { ...GOOD, password: 'next' })
      await vi.waitFor(async () => expect((await read('one')).password.revealText()).toBe('next'), { timeout: 5_000 })
    })

    test('reads at one time get each their own account', async () => {
      const names = ['one', 'two', 'three']
      for (const each of names) await fixture.put(each, { ...GOOD, username: `user-${each}`, password: `word-${each}` })
      const wanted = Array.from({ length: 60 }, (_, index) => names[index % names.length] ?? '')
      const got = await Promise.all(wanted.map((each) => read(each)))
      expect(got.map(({ username, password }) => `${username} ${password.revealText()}`)).toEqual(
        wanted.map((each) => `user-${each} word-${each}`),
      )
    })

    test('where it watches, it announces a change, until the watch or the provider is disposed', async () => {
      await fixture.put('one', GOOD)
      const heard: (string | undefined)[] = []
      const watch = provider.watch?.((secret) => heard.push(secret))
      if (!watch) return
      await fixture.put('one', { ...GOOD, password: 'next' })
      await vi.waitFor(() => expect(heard.some((each) => each === undefined || each === 'one')).toBe(true), 10_000)
      watch[Symbol.dispose]()
      const second = provider.watch?.((secret) => heard.push(secret))
      await provider[Symbol.asyncDispose]()
      const before = heard.length
      await fixture.put('one', GOOD)
      await new Promise((resolve) => setTimeout(resolve, 300))
      expect(heard).toHaveLength(before)
      second?.[Symbol.dispose]()
    })
  })
}

/** What the promise rejects with; fails when it doesn't. */
export function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.unreachable('expected a rejection'),
    (error: unknown) => error,
  )
}

/** The GmsaError that the promise rejects with, of one of these codes. */
export async function failure(promise: Promise<unknown>, ...codes: readonly ErrorCode[]): Promise<GmsaError> {
  const error = await rejection(promise)
  if (!(error instanceof GmsaError)) expect.unreachable(`expected a GmsaError, got ${error}`)
  expect(codes).toContain(error.code)
  return error
}

/** The reason itself, or an error of ours that it caused. */
function expectEndedBy(reason: Error, error: unknown): void {
  if (error !== reason) expect(error).toBeInstanceOf(GmsaError)
}

function expectNoCanary(thing: unknown): void {
  const text = printed(thing)
  for (const canary of CANARIES) expect(text).not.toMatch(canary)
}

/** A log that keeps what it is told, of every level. */
export function logTo(lines: unknown[]): Log {
  const keep = (fields: object, message: string) => void lines.push({ ...fields, message })
  return { trace: keep, debug: keep, info: keep, warn: keep, error: keep }
}
