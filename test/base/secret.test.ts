import { format, inspect, isDeepStrictEqual } from 'node:util'
import { deserialize, serialize } from 'node:v8'
import { describe, expect, test, vi } from 'vitest'
import { Secret } from '../../src/base/secret.ts'
import { printed } from '../contract/printed.ts'

const TEXT = 'correct horse €'
const SHAPES = [TEXT, 'correct', Buffer.from(TEXT).toString('base64'), Buffer.from(TEXT).toString('hex'), '63, 6f']

function expectHidden(text: string): void {
  for (const shape of SHAPES) expect(text).not.toContain(shape)
}

describe('a secret is not shown', () => {
  const secret = Secret.fromText(TEXT)
  const nested = { list: [secret], map: new Map([['key', secret]]), error: new Error('of', { cause: secret }) }

  test.each<[string, () => string]>([
    ['as text', () => `${secret}`],
    ['added to text', () => `a${secret as unknown as string}`],
    ['by String', () => String(secret)],
    ['by JSON', () => JSON.stringify({ secret })],
    ['by inspect', () => inspect(secret)],
    ['by inspect of what holds it', () => inspect({ secret }, { depth: null })],
    ['by %s', () => format('%s', secret)],
    ['by %j', () => format('%j', secret)],
    ['by %O', () => format('%O', secret)],
  ])('%s, and says so', (_way, print) => {
    const text = print()
    expect(text).toContain('[secret]')
    expectHidden(text)
  })

  test('by any way of printing, however deep it lies', () => {
    expectHidden(printed(secret))
    expectHidden(printed(nested))
    expectHidden(inspect(secret, { showHidden: true, customInspect: false, depth: null, showProxy: true }))
    expectHidden(inspect(new Proxy(secret, {}), { showProxy: true, showHidden: true }))
  })

  test('by the console', () => {
    const write = vi.spyOn(console, 'log').mockImplementation(() => {})
    console.log(secret, nested)
    expectHidden(format(...(write.mock.calls[0] ?? [])))
    write.mockRestore()
  })

  test('and does not travel: copies are empty', () => {
    expect(structuredClone(secret)).toEqual({})
    expect(deserialize(serialize(secret))).toEqual({})
    expect(Object.assign({}, secret)).toEqual({})
    expectHidden(serialize(secret).toString('latin1'))
    expect(Reflect.ownKeys(secret)).toEqual([])
  })

  test('and can not be got at by borrowing its methods', () => {
    expect(() => Secret.prototype.reveal.call({ ...secret })).toThrow(TypeError)
  })
})

describe('what it holds', () => {
  test('is given back by reveal alone', () => {
    const secret = Secret.fromText(TEXT)
    expect(secret.revealText()).toBe(TEXT)
    expect(Buffer.from(secret.reveal()).toString()).toBe(TEXT)
    expect(secret.byteLength).toBe(Buffer.byteLength(TEXT))
  })

  test('lies in memory of its own, not in a pool with others', () => {
    const secret = Secret.fromText('x')
    expect(secret.reveal().buffer.byteLength).toBe(1)
  })

  test('is the bytes it was given, a part of a buffer too', () => {
    const bytes = Uint8Array.of(1, 2, 3, 4, 5)
    const secret = new Secret(bytes.subarray(1, 4))
    expect([...secret.reveal()]).toEqual([2, 3, 4])
    bytes[2] = 9
    expect([...secret.reveal()]).toEqual([2, 9, 4])
  })

  test('is compared by its bytes', () => {
    const secret = Secret.fromText(TEXT)
    expect(secret.equals(Secret.fromText(TEXT))).toBe(true)
    expect(secret.equals(Secret.fromText(`${TEXT}!`))).toBe(false)
    expect(secret.equals(Secret.fromText(TEXT.replace('c', 'k')))).toBe(false)
    expect(Secret.fromText('').equals(Secret.fromText(''))).toBe(true)
  })

  test('can not be told by comparing objects: a test that tried would prove nothing', () => {
    expect(isDeepStrictEqual(Secret.fromText('a'), Secret.fromText('b'))).toBe(true)
  })

  test('is gone once wiped', () => {
    const bytes = Buffer.from(TEXT)
    const secret = new Secret(bytes)
    secret.wipe()
    expect(bytes.every((byte) => byte === 0)).toBe(true)
    expect(secret.equals(Secret.fromText(TEXT))).toBe(false)
  })
})
