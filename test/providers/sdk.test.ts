import { describe, expect, test } from 'vitest'
import { causeOf, importSdk, renewableClients } from '../../src/providers/sdk.ts'
import { failure, rejection } from '../contract/provider-contract.ts'
import { movableClock } from '../fakes/clock.ts'

interface Client {
  readonly number: number
  readonly ca: string
  closed: boolean
}

const signal = AbortSignal.timeout(60_000)

function makeRig() {
  const files = { ca: 'one' }
  const clock = movableClock()
  const made: Client[] = []
  const clients = renewableClients<Client, { ca: string }>({
    material: async () => ({ ...files }),
    make({ ca }) {
      const client = { number: made.length + 1, ca, closed: false }
      made.push(client)
      return client
    },
    close(client) {
      client.closed = true
    },
    remedy: (error) => (error === 'renew' || error === 'again' ? error : undefined),
    clock,
  })
  return { files, clock, made, clients, closed: () => made.filter(({ closed }) => closed).map(({ number }) => number) }
}

describe('a library that is not installed', () => {
  const missing = (code: string) => Promise.reject(Object.assign(new Error('gone'), { code }))

  test.each(['ERR_MODULE_NOT_FOUND', 'MODULE_NOT_FOUND'])('(%s) is named, with how to add it', async (code) => {
    const error = await failure(
      importSdk('akv', ['@azure/identity', '@azure/keyvault-secrets'], () => missing(code)),
      'CONFIG_INVALID',
    )
    expect(error.message).toBe('providers.akv: this installation is without @azure/identity @azure/keyvault-secrets')
    expect(error.hint).toContain('npm install @azure/identity @azure/keyvault-secrets')
  })

  test('is told from one that is broken', async () => {
    expect(await rejection(importSdk('akv', ['x'], () => missing('ERR_INVALID_ARG_TYPE')))).toMatchObject({
      message: 'gone',
    })
  })
})

describe('the cause of an error', () => {
  const refused = Object.assign(new Error(), { code: 'ECONNREFUSED' })

  test('is found wherever the library has put it, and not for ever', () => {
    expect(causeOf(refused)?.reason).toBe('refused')
    expect(causeOf(new Error('', { cause: new Error('', { cause: refused }) }))?.reason).toBe('refused')
    const circle: { cause?: unknown } = {}
    circle.cause = circle
    for (const none of [undefined, null, 'ECONNREFUSED', new Error(), circle, { code: 5 }]) {
      expect(causeOf(none)).toBeUndefined()
    }
  })
})

describe('a client', () => {
  test('is made when first used, and used for every call', async () => {
    const { clients, made } = makeRig()
    expect(made).toEqual([])
    const numbers = await Promise.all([1, 2, 3].map(() => clients.use(signal, async ({ number }) => number)))
    expect(numbers).toEqual([1, 1, 1])
  })

  test('is replaced when its credentials are refused, and the call is made again, once', async () => {
    const { clients, closed } = makeRig()
    const asked: number[] = []
    const refuse = async ({ number }: Client) => {
      asked.push(number)
      throw 'renew'
    }
    expect(await rejection(clients.use(signal, refuse))).toBe('renew')
    expect(asked).toEqual([1, 2])
    expect(closed()).toEqual([1])
    expect(await clients.use(signal, async ({ number }) => number)).toBe(2)
  })

  test('is not replaced again within five seconds', async () => {
    const { clients, clock, made } = makeRig()
    const refuse = () => rejection(clients.use(signal, () => Promise.reject('renew')))
    for (let count = 0; count < 10; count++) await refuse()
    expect(made).toHaveLength(2)
    await clock.advance(5_000)
    // Neither by a wall clock that steps.
    clock.stepWall(-3_600_000)
    await refuse()
    expect(made).toHaveLength(3)
  })

  test('is replaced once by calls that fail together; each is made again', async () => {
    const { clients, made } = makeRig()
    const { promise: gate, resolve } = Promise.withResolvers<void>()
    const work = async ({ number }: Client) => {
      await gate
      if (number === 1) throw 'renew'
      return number
    }
    const calls = [1, 2, 3, 4].map(() => clients.use(signal, work))
    resolve()
    expect(await Promise.all(calls)).toEqual([2, 2, 2, 2])
    expect(made).toHaveLength(2)
  })

  test('is used again where it has learnt from the error', async () => {
    const { clients, made } = makeRig()
    let calls = 0
    const work = async () => {
      calls += 1
      if (calls === 1) throw 'again'
      return calls
    }
    expect(await clients.use(signal, work)).toBe(2)
    expect(made).toHaveLength(1)
    calls = 0
    expect(await rejection(clients.use(signal, () => Promise.reject('other')))).toBe('other')
    expect(calls).toBe(0)
  })

  test('is replaced when what it is made of is another; the old one is closed after its last call', async () => {
    const { files, clients, closed } = makeRig()
    const { promise: gate, resolve } = Promise.withResolvers<void>()
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
    const slow = clients.use(signal, async ({ ca }) => {
      begin()
      await gate
      return ca
    })
    await begun
    files.ca = 'two'
    expect(await clients.use(signal, async ({ ca }) => ca)).toBe('two')
    expect(closed()).toEqual([])
    resolve()
    expect(await slow).toBe('one')
    expect(closed()).toEqual([1])
  })

  test('is not waited for once the signal has ended, nor asked again', async () => {
    const { clients } = makeRig()
    const controller = new AbortController()
    let calls = 0
    const waiting = rejection(
      clients.use(controller.signal, () => {
        calls += 1
        controller.abort(new Error('gave up'))
        return Promise.reject('again')
      }),
    )
    expect(await waiting).toMatchObject({ message: 'gave up' })
    expect(calls).toBe(1)
  })

  test('is not waited for by a call that does not heed the signal, and not used once the signal has ended', async () => {
    const { clients } = makeRig()
    const controller = new AbortController()
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
    const waiting = rejection(
      clients.use(controller.signal, () => {
        begin()
        return new Promise(() => {})
      }),
    )
    await begun
    controller.abort(new Error('gave up'))
    expect(await waiting).toMatchObject({ message: 'gave up' })
    const unused = () => expect.unreachable()
    expect(await rejection(clients.use(controller.signal, unused))).toMatchObject({ message: 'gave up' })
  })

  test('is closed with all the others at the end', async () => {
    const { clients, closed } = makeRig()
    void clients.use(signal, () => new Promise(() => {})).catch(() => {})
    await clients.use(signal, async () => {})
    clients.close()
    expect(closed()).toEqual([1])
  })
})
