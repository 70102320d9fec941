import { expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { faultOf } from '../../src/base/fault.ts'

const SECRET = 'canary'

class ParseError extends Error {
  readonly response = { body: SECRET }
}

test('a foreign error is told by class, code and stack, with those of its causes', () => {
  const cause = Object.assign(new RangeError(SECRET), { code: 'ERR_OUT_OF_RANGE' })
  const fault = faultOf(new ParseError(SECRET, { cause }))
  const here = expect.stringMatching(/^at .*fault\.test\.ts/)
  const frames = expect.arrayContaining([here])
  expect(fault).toEqual({
    type: 'ParseError',
    stack: frames,
    cause: { type: 'RangeError', code: 'ERR_OUT_OF_RANGE', stack: frames },
  })
  expect(fault.stack?.[0]).toEqual(here)
})

test.each([
  ['its message', new Error(SECRET)],
  ['a message of several lines, one like a frame', new Error(`unexpected\n    at ${SECRET}\n    at ${SECRET} (x)`)],
  ['a message that was changed later', Object.assign(new Error(SECRET), { message: 'other' })],
  ['its own members', new ParseError('x')],
  ['its name', Object.assign(new Error('x'), { name: SECRET })],
  ['a code that is none', Object.assign(new Error('x'), { code: SECRET })],
  ['a cause of its own', new Error('x', { cause: new Error(SECRET) })],
  ['a cause that is a text', new Error('x', { cause: SECRET })],
  ['one of several', new AggregateError([new Error(SECRET)], SECRET)],
  ['a text that was thrown', SECRET],
  ['an object that was thrown', { message: SECRET, stack: SECRET, code: 'E' }],
])('nothing is told of %s', (_what, thrown) => {
  expect(JSON.stringify(faultOf(thrown))).not.toContain(SECRET)
})

test('an error of ours is told with its message, which names things alone', () => {
  expect(faultOf(new GmsaError('INTERNAL', 'no such state'))).toMatchObject({
    type: 'GmsaError',
    code: 'INTERNAL',
    message: 'no such state',
  })
})

test('causes that go round in a circle are told a few times', () => {
  const error = new Error('x')
  error.cause = error
  expect(JSON.stringify(faultOf(error)).split('"type"')).toHaveLength(7)
})

test('what is no error is told by its type', () => {
  expect([undefined, null, 5].map((each) => faultOf(each).type)).toEqual(['undefined', 'null', 'number'])
})
