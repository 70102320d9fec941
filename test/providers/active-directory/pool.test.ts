import { Client } from 'ldapts'
import { describe, expect, test } from 'vitest'
import { GmsaError } from '../../../src/base/errors.ts'
import type { Connection } from '../../../src/providers/active-directory/connection.ts'
import { connectionPool, MAX_AGE } from '../../../src/providers/active-directory/pool.ts'
import { failure, rejection } from '../../contract/provider-contract.ts'
import { type MovableClock, movableClock } from '../../fakes/clock.ts'

interface FakeConnection extends Connection {
  readonly number: number
  /** As the other side would. */
  lose(): void
}

function make(open?: (server: string, connection: FakeConnection) => Promise<Connection>) {
  const clock: MovableClock = movableClock()
  const opened: FakeConnection[] = []
  const pool = connectionPool({
    clock,
    async open(server) {
      const connection = fakeConnection(server, opened.length + 1)
      opened.push(connection)
      return open ? open(server, connection) : connection
    },
  })
  const numberOf = (server = 'dc1') => pool.use(server, async ({ connection }) => (connection as FakeConnection).number)
  return { clock, opened, pool, numberOf, stillOpen: () => opened.filter((each) => each.isOpen()).length }
}

function fakeConnection(host: string, number: number): FakeConnection {
  let open = true
  const end = () => {
    open = false
  }
  const client = new Client({ url: 'ldap://nobody.invalid' })
  return { host, number, transport: 'ldaps', client, secure: async () => {}, isOpen: () => open, close: end, lose: end }
}

describe('the pool of connections', () => {
  test('opens one a server, shared by all, also while it is being opened', async () => {
    const { numberOf, opened } = make()
    const numbers = await Promise.all([numberOf(), numberOf(), numberOf(), numberOf('dc2')])
    expect(numbers).toEqual([1, 1, 1, 2])
    expect(await numberOf()).toBe(1)
    expect(opened.map(({ host }) => host)).toEqual(['dc1', 'dc2'])
  })

  test('one that can not be opened fails all who wait for it, and the next one tries anew', async () => {
    const refusal = new GmsaError('STORE_DENIED', 'no')
    let refuse = true
    const { numberOf, opened } = make(async (_, connection) => (refuse ? Promise.reject(refusal) : connection))
    const errors = await Promise.all([rejection(numberOf()), rejection(numberOf())])
    expect(errors).toEqual([refusal, refusal])
    expect(opened).toHaveLength(1)
    refuse = false
    expect(await numberOf()).toBe(2)
  })

  test('logs on anew after a minute, and ends the old connection when its last user is done', async () => {
    const { numberOf, pool, clock, stillOpen } = make()
    await numberOf()
    const { promise: held, resolve: release } = Promise.withResolvers<string>()
    const using = pool.use('dc1', () => held)
    await clock.advance(MAX_AGE)
    expect(await numberOf()).toBe(2)
    expect(stillOpen()).toBe(2)
    release('done')
    expect(await using).toBe('done')
    expect(stillOpen()).toBe(1)
    await clock.advance(MAX_AGE)
    expect(stillOpen()).toBe(0)
    expect(clock.pending).toBe(0)
  })

  test('one that has ended meanwhile is replaced before it is used', async () => {
    const { numberOf, opened } = make()
    await numberOf()
    opened[0]?.lose()
    expect(await numberOf()).toBe(2)
  })

  test('a task whose connection ends under it runs once more, on a new one, and not a third time', async () => {
    const { pool, opened, numberOf } = make()
    await numberOf()
    const tried: number[] = []
    const lost = new Error('Connection closed before message response was received')
    const task = pool.use('dc1', async ({ connection }) => {
      const { number, lose } = connection as FakeConnection
      tried.push(number)
      lose()
      throw lost
    })
    expect(await rejection(task)).toBe(lost)
    expect(tried).toEqual([1, 2])
    expect(opened).toHaveLength(2)
  })

  test('an error over a connection that lives is no reason to try again', async () => {
    const { pool, opened, numberOf } = make()
    await numberOf()
    const refusal = new GmsaError('STORE_DENIED', 'no')
    expect(await rejection(pool.use('dc1', () => Promise.reject(refusal)))).toBe(refusal)
    expect(opened).toHaveLength(1)
  })

  test('dropping a silent one frees everybody who waits on it, with that cause', async () => {
    const { pool, numberOf, opened } = make()
    await numberOf()
    const waiting = pool.use('dc1', async ({ connection }) => {
      const { promise, reject } = Promise.withResolvers<never>()
      setImmediate(() => reject(new Error(`closed: ${!connection.isOpen()}`)))
      return promise
    })
    pool.drop('dc1')
    expect((await failure(waiting, 'STORE_UNAVAILABLE')).reason).toBe('hang')
    expect(opened).toHaveLength(1)
    expect(await numberOf()).toBe(2)
  })

  test('retiring takes the connection of the lease, never its successor', async () => {
    const { pool, numberOf } = make()
    await numberOf()
    const { promise: later, resolve } = Promise.withResolvers<void>()
    const slow = pool.use('dc1', async ({ retire }) => {
      await later
      retire()
    })
    await pool.use('dc1', async ({ retire }) => retire())
    expect(await numberOf()).toBe(2)
    resolve()
    await slow
    expect(await numberOf()).toBe(2)
  })

  test('tells the age of a log-on', async () => {
    const { pool, numberOf, clock } = make()
    await numberOf()
    await clock.advance(1_500)
    expect(await pool.use('dc1', async ({ age }) => age())).toBe(1_500)
  })

  test('ends everything when disposed, what is being opened too, and opens nothing after', async () => {
    const { promise: slow, resolve } = Promise.withResolvers<void>()
    const { pool, numberOf, stillOpen, clock } = make(async (server, connection) => {
      if (server === 'dc2') await slow
      return connection
    })
    await numberOf()
    const late = rejection(numberOf('dc2'))
    pool[Symbol.dispose]()
    resolve()
    await late.catch(() => {})
    expect(stillOpen()).toBe(0)
    expect(clock.pending).toBe(0)
    await rejection(numberOf())
    expect(stillOpen()).toBe(0)
  })
})
