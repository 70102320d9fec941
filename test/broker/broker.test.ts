import { afterEach, describe, expect, test, vi } from 'vitest'
import { type ErrorCode, GmsaError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { type AccountEntry, type Broker, openBroker } from '../../src/broker/broker.ts'
import type { Grant } from '../../src/broker/policy.ts'
import type { Provider } from '../../src/providers/provider.ts'
import { failure } from '../contract/provider-contract.ts'
import { movableClock } from '../fakes/clock.ts'
import { CREDENTIAL, type MemoryStore, memoryStore } from '../fakes/memory-provider.ts'

const TIMEOUT = 5_000
const everything: Grant = { allows: () => true }
const nothing: Grant = { allows: () => false }
const only = (...names: string[]): Grant => ({ allows: (name, what) => what === 'credential' && names.includes(name) })
const entry = (provider: string, secret?: string): AccountEntry => ({
  provider,
  ...(secret !== undefined && { secret }),
  options: {},
})

let broker: Broker
afterEach(async () => await broker[Symbol.asyncDispose]())

function rig(accounts: Record<string, AccountEntry>, stores: readonly MemoryStore[] = [memoryStore()]) {
  const clock = movableClock()
  const events = {
    cacheRead: vi.fn(),
    providerRead: vi.fn(),
    providerUp: vi.fn(),
    accountRead: vi.fn(),
    accountKeys: vi.fn(),
    directoryRead: vi.fn(),
    logOn: vi.fn(),
  }
  broker = openBroker({
    accounts: new Map(Object.entries(accounts)),
    providers: new Map(stores.map(({ provider }) => [provider.name, provider])),
    cache: { maxAge: 30_000, serveStale: 60_000 },
    timeout: TIMEOUT,
    clock,
    log: silentLog,
    events,
  })
  const [store = memoryStore()] = stores
  for (const each of stores) for (const secret of ['web01', 'svc', 'other']) each.put(secret, CREDENTIAL)
  const read = (name: string, grant = everything) => broker.read(grant, name, 'credential')
  const touched = () => Object.values(events).some((event) => event.mock.calls.length > 0) || store.reads.length > 0
  return { broker, clock, events, store, read, touched }
}

describe('who may ask', () => {
  test.each([
    '',
    '*',
    '../web01',
    'web01\n',
    'WEB01',
    'web01/x',
    'web_01',
    '.web01',
    'web01.',
    '-a',
    'a..b',
    'a'.repeat(254),
    'wéb',
    'web01\0',
  ])('%j is no name: neither policy nor store nor cache is asked', async (name) => {
    const { read, touched } = rig({ web01: entry('memory'), '*': entry('memory') })
    const allows = vi.fn(() => true)
    expect(await failure(read(name, { allows }), 'REQUEST_INVALID')).toMatchObject({ status: 404 })
    expect(allows).not.toHaveBeenCalled()
    expect(touched()).toBe(false)
  })

  test('whoever is denied touches neither store nor cache, whether the account exists or not', async () => {
    const { read, touched } = rig({ web01: entry('memory'), '*': entry('memory') })
    for (const name of ['web01', 'absent']) await failure(read(name, nothing), 'ACCOUNT_FORBIDDEN')
    expect(touched()).toBe(false)
  })

  test('whoever is denied stays so when another has just read the account', async () => {
    const { read, store } = rig({ web01: entry('memory') })
    await read('web01')
    await failure(read('web01', only('web02')), 'ACCOUNT_FORBIDDEN')
    expect(store.reads).toHaveLength(1)
  })

  test('the policy is asked for the kind that is read, under the name of the account', async () => {
    const { read } = rig({ web01: entry('memory', 'svc') })
    const allows = vi.fn(() => true)
    await read('web01', { allows })
    expect(allows.mock.calls).toEqual([['web01', 'credential']])
  })
})

describe('where an account lies', () => {
  test('a configured one is read under its own name, or the name the store has for it', async () => {
    const { read, store } = rig({ web01: entry('memory'), ccg: entry('memory', 'svc') })
    expect(await read('web01')).toMatchObject({ provider: 'memory', material: { username: 'svc' } })
    await read('ccg')
    expect(store.reads).toEqual(['web01', 'svc'])
  })

  test('a name that is not configured does not exist, though the store has it', async () => {
    const { read, touched } = rig({ web01: entry('memory') })
    await failure(read('other'), 'ACCOUNT_NOT_FOUND')
    expect(touched()).toBe(false)
  })

  test('any other name is read where the star says', async () => {
    const { read, store } = rig({ web01: entry('memory'), '*': entry('memory') })
    await read('other')
    await failure(read('absent'), 'ACCOUNT_NOT_FOUND')
    expect(store.reads).toEqual(['other', 'absent'])
  })

  test('a configured name is not read where the star says, even when its own store has no such account', async () => {
    const own = memoryStore('own')
    const rest = memoryStore('rest')
    const { read } = rig({ web01: entry('own', 'nowhere'), '*': entry('rest') }, [own, rest])
    await failure(read('web01'), 'ACCOUNT_NOT_FOUND')
    expect(rest.reads).toEqual([])
  })

  test('names of every object are no accounts', async () => {
    const { read } = rig({ web01: entry('memory') })
    await failure(read('constructor'), 'ACCOUNT_NOT_FOUND')
  })

  test('an account whose provider is not there does not exist', async () => {
    const { read } = rig({ web01: entry('gone') })
    await failure(read('web01'), 'ACCOUNT_NOT_FOUND')
  })

  test('providerOf tells for configured names, and for others where there is a star', () => {
    expect(rig({ web01: entry('memory') }).broker.providerOf('other')).toBeUndefined()
    const { broker } = rig({ web01: entry('memory'), '*': entry('rest') })
    expect([broker.providerOf('web01'), broker.providerOf('other')]).toEqual(['memory', 'rest'])
  })

  test('a kind that the provider does not hold is KIND_NOT_OFFERED, and not the fault of the store', async () => {
    const store = memoryStore()
    const provider: Provider = { ...store.provider, reads: {} }
    const { read, broker, events } = rig({ web01: entry('memory') }, [{ ...store, provider }])
    await failure(read('web01'), 'KIND_NOT_OFFERED')
    expect(broker.list(everything)).toEqual([])
    expect(events.providerUp).not.toHaveBeenCalled()
  })
})

describe('the list', () => {
  test('has the configured accounts that this client may read, in their order, without the star', () => {
    const { broker, touched } = rig({ web02: entry('memory'), web01: entry('memory'), '*': entry('memory') })
    const listed = (grant: Grant) => broker.list(grant).map(({ name }) => name)
    expect(listed(everything)).toEqual(['web02', 'web01'])
    expect(listed(only('web01', 'other'))).toEqual(['web01'])
    expect(listed(nothing)).toEqual([])
    expect(broker.list(only('web01'))).toEqual([{ name: 'web01', kinds: ['credential'] }])
    expect(touched()).toBe(false)
  })
})

describe('reading', () => {
  test('counts what the cache and the store did', async () => {
    const { read, events, clock, store } = rig({ web01: entry('memory') })
    const release = store.hold()
    const both = Promise.all([read('web01'), read('web01')])
    await clock.advance(2_000)
    release()
    await both
    await read('web01')
    expect(events.cacheRead.mock.calls).toEqual([['joined'], ['miss'], ['fresh']])
    expect(events.providerRead.mock.calls).toEqual([['memory', 2, undefined]])
    expect(events.providerUp.mock.calls).toEqual([['memory', true]])
    expect(events.accountRead.mock.calls).toEqual([['web01', { stale: false }]])
  })

  test('of a name behind the star is not told by name', async () => {
    const { read, events } = rig({ '*': entry('memory') })
    await read('other')
    expect(events.providerRead).toHaveBeenCalledTimes(1)
    expect(events.accountRead).not.toHaveBeenCalled()
  })

  test('from a store that is out gives the last answer, marked in whole seconds', async () => {
    const { read, events, clock, store } = rig({ web01: entry('memory') })
    await read('web01')
    await clock.advance(30_100)
    const out = new GmsaError('STORE_UNAVAILABLE', 'out', { reason: 'hang' })
    store.fail(out)
    expect(await read('web01')).toMatchObject({ stale: 31, material: { username: 'svc' } })
    expect(events.accountRead).toHaveBeenLastCalledWith('web01', { stale: true })
    expect(events.providerRead).toHaveBeenLastCalledWith('memory', 0, out)
    expect(events.providerUp).toHaveBeenLastCalledWith('memory', false)
    await clock.advance(30_000)
    await failure(read('web01'), 'STORE_UNAVAILABLE')
  })

  test('from a store that hangs ends at the deadline, with the last answer or STORE_TIMEOUT', async () => {
    const { read, clock, store } = rig({ web01: entry('memory'), svc: entry('memory') })
    await read('web01')
    store.announce()
    store.hold({ ignoreSignal: true })
    const known = read('web01')
    const unknown = failure(read('svc'), 'STORE_TIMEOUT')
    await clock.advance(TIMEOUT)
    expect(await known).toMatchObject({ stale: 5 })
    await unknown
  })

  test.each<ErrorCode>(['STORE_DENIED', 'MATERIAL_MALFORMED'])('passes on %s, and no older answer', async (code) => {
    const { read, clock, store } = rig({ web01: entry('memory') })
    await read('web01')
    await clock.advance(30_000)
    store.fail(new GmsaError(code, 'as told'))
    await failure(read('web01'), code)
  })

  test('meets a bug of a provider as INTERNAL', async () => {
    const { read, store } = rig({ web01: entry('memory') })
    store.fail(new TypeError('bug'))
    expect(await failure(read('web01'), 'INTERNAL')).toMatchObject({ status: 500 })
  })
})

describe('a change that a store announces', () => {
  test('concerns the accounts of that secret, of that store alone', async () => {
    const [one, two] = [memoryStore('one'), memoryStore('two')]
    const accounts = { a: entry('one', 'svc'), b: entry('one', 'other'), c: entry('two', 'svc'), svc: entry('one') }
    const { read } = rig(accounts, [one, two])
    const readAll = () => Promise.all(['a', 'b', 'c', 'svc'].map((name) => read(name)))
    await readAll()
    one.announce('svc')
    await readAll()
    expect([one.reads, two.reads]).toEqual([['svc', 'other', 'svc', 'svc', 'svc'], ['svc']])
    one.announce()
    await readAll()
    expect([one.reads.length, two.reads.length]).toEqual([8, 1])
  })

  test('of a secret does not concern one whose name begins with it', async () => {
    const store = memoryStore()
    const { read } = rig({ svc: entry('memory'), web01: entry('memory') }, [store])
    await read('svc')
    await read('web01')
    store.announce('sv')
    await read('svc')
    expect(store.reads).toHaveLength(2)
  })
})

describe('closing', () => {
  test('ends probes and watches and closes every store, though one fails to and one hangs', async () => {
    const stores = [memoryStore('a'), memoryStore('b'), memoryStore('c'), memoryStore('d')]
    const fails = async () => {
      throw new Error('broken')
    }
    const hangs = () => new Promise<void>(() => {})
    const broken = stores.map((store, index) => {
      const close = [fails, hangs][index]
      return close ? { ...store, provider: { ...store.provider, [Symbol.asyncDispose]: close } } : store
    })
    const { broker, clock } = rig({ web01: entry('a') }, broken)
    expect(stores.map(({ watches }) => watches)).toEqual([1, 1, 1, 1])
    const closing = broker[Symbol.asyncDispose]()
    await clock.advance(TIMEOUT)
    await closing
    expect(stores.map(({ watches }) => watches)).toEqual([0, 0, 0, 0])
    expect(stores.map(({ closed }) => closed)).toEqual([0, 0, 1, 1])
    expect(clock.pending).toBe(0)
    const { broker: next } = rig({})
    await next[Symbol.asyncDispose]()
  })
})
