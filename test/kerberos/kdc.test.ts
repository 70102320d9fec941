import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { encodeAsRequest } from '../../src/kerberos/as-messages.ts'
import { KRB_ERRORS } from '../../src/kerberos/error-codes.ts'
import { type AskOptions, askKdcs, type Kdc, kdcName } from '../../src/kerberos/kdc.ts'
import { type KdcSockets, systemSockets } from '../../src/kerberos/kdc-sockets.ts'
import { failure } from '../contract/provider-contract.ts'
import { movableClock } from '../fakes/clock.ts'
import { type Answer, type FakeKdc, startKdc } from '../fakes/kdc.ts'
import { errorMessage } from '../fakes/kdc-messages.ts'

const NOW = Date.UTC(2026, 0, 1)
const refusal = (code: number) => errorMessage(code, NOW)
const [unknown, tooBig, unavailable] = [
  refusal(KRB_ERRORS.KDC_ERR_C_PRINCIPAL_UNKNOWN),
  refusal(KRB_ERRORS.KRB_ERR_RESPONSE_TOO_BIG),
  refusal(KRB_ERRORS.KDC_ERR_SVC_UNAVAILABLE),
]
const request = encodeAsRequest({
  client: { realm: 'AD.TEST', components: ['web01$'], nameType: 1 },
  server: { realm: 'AD.TEST', components: ['krbtgt', 'AD.TEST'], nameType: 2 },
  options: 0,
  till: NOW,
  nonce: 1,
  enctypes: [18],
  preauth: [],
})

/** Sockets that keep a note of who was asked how. */
function noting(sockets: KdcSockets = systemSockets): KdcSockets & { readonly asked: string[] } {
  const asked: string[] = []
  const note = (transport: 'udp' | 'tcp'): KdcSockets['udp'] => {
    return (host, port, message, signal) => {
      asked.push(`${host} ${transport}`)
      return sockets[transport](host, port, message, signal)
    }
  }
  return { asked, udp: note('udp'), tcp: note('tcp') }
}

const ask = (kdcs: readonly Kdc[], more: Partial<AskOptions> = {}) =>
  askKdcs(request, {
    kdcs,
    sockets: systemSockets,
    clock: systemClock,
    signal: AbortSignal.timeout(10_000),
    ...more,
  })

describe('one KDC', () => {
  const cases: readonly (readonly [string, Partial<AskOptions>, Kdc['transport'], readonly string[]])[] = [
    ['is asked by UDP', {}, undefined, ['udp']],
    ['is asked by TCP where the request is long', { udpPreferenceLimit: 1 }, undefined, ['tcp']],
    ['is asked by UDP at the very limit', { udpPreferenceLimit: request.length }, undefined, ['udp']],
    ['is asked by TCP alone where it has no other', {}, 'tcp', ['tcp']],
    ['is asked by UDP alone where it has no other', { udpPreferenceLimit: 1 }, 'udp', ['udp']],
  ]
  test.each(cases)('%s', async (_what, options, transport, expected) => {
    await using fake = await startKdc(() => unknown)
    const { reply, kdc } = await ask([{ ...fake.kdc, ...(transport && { transport }) }], options)
    expect(reply).toEqual({ kind: 'error', code: 6, time: NOW })
    expect(kdc).toMatchObject(fake.kdc)
    expect(fake.seen.map((each) => each.transport)).toEqual(expected)
    expect(fake.seen[0]).toMatchObject({ client: 'web01$', realm: 'AD.TEST', nonce: 1, enctypes: [18] })
  })

  test('that says its answer is too big for UDP is asked by TCP at once', async () => {
    await using fake = await startKdc(({ transport }) => (transport === 'udp' ? tooBig : unknown))
    expect((await ask([fake.kdc])).reply).toMatchObject({ code: 6 })
    expect(fake.seen.map(({ transport }) => transport)).toEqual(['udp', 'tcp'])
  })

  test('that says so over TCP as well has said its last word', async () => {
    await using fake = await startKdc(() => tooBig)
    expect((await ask([fake.kdc])).reply).toMatchObject({ code: 52 })
    expect(fake.seen.map(({ transport }) => transport)).toEqual(['udp', 'tcp'])
  })

  test('behind a firewall that lets no datagram through is asked by TCP after a second', async () => {
    await using fake = await startKdc(({ transport }) => (transport === 'udp' ? 'silence' : unknown))
    const clock = movableClock()
    const answer = ask([fake.kdc], { clock })
    await expect.poll(() => fake.seen.length).toBe(1)
    await clock.advance(999)
    expect(fake.seen.length).toBe(1)
    await clock.advance(1)
    expect((await answer).reply).toMatchObject({ code: 6 })
    expect(fake.seen.map(({ transport }) => transport)).toEqual(['udp', 'tcp'])
    expect(clock.pending).toBe(0)
  })

  test('over TCP that listens on no UDP port is asked by TCP without a pause', async () => {
    await using fake = await startKdc(() => unknown, { transports: ['tcp'] })
    // A clock that stands still: nothing but the refusal can lead to TCP.
    expect((await ask([fake.kdc], { clock: movableClock() })).reply).toMatchObject({ code: 6 })
  })

  test('has an answer in as many pieces as it likes', async () => {
    const whole = Buffer.concat([Buffer.from([0, 0, 0, unknown.length]), unknown])
    const server = createServer((socket) => {
      const send = (at = 0): void => {
        socket.write(whole.subarray(at, at + 1))
        if (at + 1 < whole.length) setImmediate(send, at + 1)
      }
      socket.setNoDelay().once('data', () => send())
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    const port = typeof address === 'object' && address ? address.port : 0
    expect((await ask([{ host: '127.0.0.1', port, transport: 'tcp' }])).reply).toMatchObject({ code: 6 })
    server.close()
  })

  test('is reached over IPv6, and its name is looked up', async () => {
    await using six = await startKdc(() => unknown, { host: '::1' })
    for (const transport of ['udp', 'tcp'] as const) {
      expect((await ask([{ ...six.kdc, transport }])).reply).toMatchObject({ code: 6 })
    }
    await using four = await startKdc(() => unknown)
    // Whichever address of localhost comes first, the one where somebody listens is found.
    for (const transport of ['udp', 'tcp'] as const) {
      expect((await ask([{ host: 'localhost', port: four.kdc.port, transport }])).reply).toMatchObject({ code: 6 })
    }
  })

  test('is not spoken for by others: what another port sends is not heard', async () => {
    await using fake = await startKdc(({ transport }) => (transport === 'udp' ? 'silence' : unknown))
    const clock = movableClock()
    const answer = ask([fake.kdc], { clock })
    await expect.poll(() => fake.seen.length).toBe(1)
    const stranger = createSocket('udp4')
    await new Promise((resolve) => stranger.send(refusal(60), fake.seen[0]?.port ?? 0, '127.0.0.1', resolve))
    stranger.close()
    await clock.advance(1_000)
    expect((await answer).reply).toMatchObject({ code: 6 })
  })
})

describe('several KDCs', () => {
  /** As many as there are behaviours, and what the first answer to all of them is. */
  async function startAll(...behaviours: readonly (() => Answer)[]) {
    const fakes = await Promise.all(behaviours.map((each, index) => startKdc(each, { host: `127.0.0.${index + 1}` })))
    const stack = new AsyncDisposableStack()
    for (const fake of fakes) stack.use(fake)
    return { fakes, kdcs: fakes.map(({ kdc }) => kdc), [Symbol.asyncDispose]: () => stack.disposeAsync() }
  }
  const seen = (fakes: readonly FakeKdc[]) => fakes.map((each) => each.seen.length)

  test('are asked in their order, and the first that answers is enough', async () => {
    await using all = await startAll(
      () => unknown,
      () => unknown,
    )
    expect((await ask(all.kdcs)).kdc).toBe(all.kdcs[0])
    expect(seen(all.fakes)).toEqual([1, 0])
  })

  const failures: readonly (readonly [string, Answer])[] = [
    ['speaks nonsense', Buffer.from('nonsense')],
    ['sends an empty datagram', { wire: new Uint8Array() }],
    ['has lost its database', unavailable],
    ['sends half an answer', unknown.subarray(0, 40)],
  ]
  test.each(failures)('where the first %s, the second is asked at once', async (_what, answer) => {
    await using all = await startAll(
      () => answer,
      () => unknown,
    )
    expect((await ask(all.kdcs, { clock: movableClock() })).kdc).toBe(all.kdcs[1])
    expect(seen(all.fakes)).toEqual([1, 1])
  })

  const broken: readonly (readonly [string, Answer])[] = [
    ['hangs up', 'hang-up'],
    ['announces more than anybody sends', { wire: Buffer.from('7fffffff00', 'hex') }],
    ['announces more than it sends', { wire: Buffer.from('0000ffff00', 'hex') }],
    ['sends an empty answer', { wire: Buffer.alloc(4) }],
    ['speaks another protocol', { wire: Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n') }],
  ]
  test.each(broken)('where the first %s over TCP, the second is asked at once', async (_what, answer) => {
    await using all = await startAll(
      () => answer,
      () => unknown,
    )
    const kdcs = all.kdcs.map((kdc) => ({ ...kdc, transport: 'tcp' as const }))
    expect((await ask(kdcs, { clock: movableClock() })).kdc).toBe(kdcs[1])
    expect(seen(all.fakes)).toEqual([1, 1])
  })

  test('where the first ones are silent the others follow, a second apart', async () => {
    await using all = await startAll(
      () => 'silence',
      () => 'silence',
      () => unknown,
    )
    const clock = movableClock()
    const answer = ask(all.kdcs, { clock })
    for (const counts of [
      [1, 0, 0],
      [1, 1, 0],
    ]) {
      await expect.poll(() => seen(all.fakes)).toEqual(counts)
      await clock.advance(1_000)
    }
    expect((await answer).kdc).toBe(all.kdcs[2])
  })

  test('one that takes its time is still heard after the next was asked', async () => {
    const { promise, resolve } = Promise.withResolvers<Uint8Array>()
    const sockets: KdcSockets = {
      tcp: () => new Promise(() => {}),
      udp: (host) => (host === 'slow' ? promise : new Promise(() => {})),
    }
    const clock = movableClock()
    const [slow, silent] = ['slow', 'silent'].map((host) => ({ host, port: 88 })) as [Kdc, Kdc]
    const answer = ask([slow, silent], { clock, sockets })
    await clock.advance(3_500)
    resolve(unknown)
    expect((await answer).kdc).toBe(slow)
  })

  test('are asked by TCP only after all were asked by UDP', async () => {
    const never = () => new Promise<never>(() => {})
    const sockets = noting({ udp: never, tcp: never })
    const clock = movableClock()
    const signal = AbortSignal.timeout(60_000)
    const answer = ask(
      ['a', 'b'].map((host) => ({ host, port: 88 })),
      { clock, sockets, signal },
    )
    answer.catch(() => {})
    await clock.advance(10_000)
    expect(sockets.asked).toEqual(['a udp', 'b udp', 'a tcp', 'b tcp'])
  })

  test('are sixteen at most', async () => {
    const sockets = noting({ udp: () => Promise.reject(new RangeError()), tcp: () => Promise.reject(new RangeError()) })
    const kdcs = Array.from({ length: 40 }, (_, index) => ({ host: `kdc${index}`, port: 88 }))
    await failure(ask(kdcs, { sockets }), 'STORE_UNAVAILABLE')
    expect(sockets.asked.length).toBe(32)
  })
})

describe('no KDC', () => {
  const failing = (code: string) => {
    const send = () => Promise.reject(Object.assign(new Error(code), { code }))
    return { udp: send, tcp: send }
  }
  const kdc = { host: 'dc1.ad.test', port: 88 }

  test.each([
    ['refused', 'ECONNREFUSED', 'it refuses the connection'],
    ['refused', 'EHOSTUNREACH', 'there is no way to it'],
    ['refused', 'ECONNRESET', 'it closes the connection'],
    ['hang', 'ETIMEDOUT', 'it does not answer'],
    ['not-found', 'ENOTFOUND', 'its name is not known'],
    ['refused', 'EWHATEVER', 'EWHATEVER'],
  ])('answers: %s after %s, in words', async (reason, code, words) => {
    const error = await failure(ask([kdc], { sockets: failing(code) }), 'STORE_UNAVAILABLE')
    expect(error.reason).toBe(reason)
    expect(error.message).toBe(`no KDC answers: dc1.ad.test:88 by UDP: ${words}; dc1.ad.test:88 by TCP: ${words}`)
    expect(error.hint).toContain('port 88')
  })

  test('sense in an answer is worth more than no answer: protocol comes before refused', async () => {
    await using fake = await startKdc(() => Buffer.from('nonsense'), { transports: ['udp'] })
    const error = await failure(ask([fake.kdc]), 'STORE_UNAVAILABLE')
    expect(error.reason).toBe('protocol')
    expect(error.message).toContain(`${kdcName(fake.kdc)} by TCP: it refuses the connection`)
  })

  test('is known', async () => {
    const error = await failure(ask([]), 'STORE_UNAVAILABLE')
    expect(error).toMatchObject({ reason: 'not-found', message: 'no KDC answers: none is known' })
  })

  test('is asked after the signal has ended it, and every socket is closed', async () => {
    await using fake = await startKdc(() => 'silence')
    for (const transport of ['udp', 'tcp'] as const) {
      const controller = new AbortController()
      // The stand-in's own.
      await expect.poll(sockets).toBe(1)
      const answer = ask([{ ...fake.kdc, transport }], { signal: controller.signal })
      await expect.poll(() => fake.seen.at(-1)?.transport).toBe(transport)
      controller.abort(new Error('enough'))
      await expect(answer).rejects.toThrow('enough')
      await expect.poll(sockets).toBe(1)
    }
    const asked = noting()
    await expect(ask([fake.kdc], { signal: AbortSignal.abort(new Error('late')), sockets: asked })).rejects.toThrow(
      'late',
    )
  })

  test('has a name with two meanings: addresses of IPv6 stand in brackets', () => {
    expect(kdcName({ host: '::1', port: 88 })).toBe('[::1]:88')
  })
})

/** The client's sockets of this process that are open. */
const sockets = () =>
  process.getActiveResourcesInfo().filter((each) => each === 'TCPSocketWrap' || each === 'UDPWrap').length
