import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type PluginInput, parsePluginInput } from '../../../src/providers/azure-key-vault/plugin-input.ts'

const ID = '11111111-2222-3333-4444-555555555555'
const URI = 'https://contoso.vault.azure.net/secrets/gmsa'

describe('the input of the CCG plug-in', () => {
  test.each<[string, PluginInput | undefined]>([
    [`ObjectId=${ID};SecretUri=${URI}`, { objectId: ID, secretUri: URI }],
    [`SecretUri=${URI};ObjectId=${ID}`, { objectId: ID, secretUri: URI }],
    [`OBJECTID=${ID};secreturi=${URI};`, { objectId: ID, secretUri: URI }],
    [`Colour=blue;SecretUri=${URI}`, { secretUri: URI }],
    [`ObjectId=;SecretUri=${URI}`, { secretUri: URI }],
    [`SecretUri=${URI}?a=b=c`, { secretUri: `${URI}?a=b=c` }],
    [`SecretUri= ${URI}`, { secretUri: ` ${URI}` }],
    [`SecretUri="${URI}"`, { secretUri: `"${URI}"` }],
    [`SecretUri=https://one.example;SecretUri=${URI}`, { secretUri: URI }],
    [`ObjectId=${ID}`, undefined],
    ['SecretUri=', undefined],
    ['=;;=', undefined],
    ['', undefined],
    [URI, undefined],
  ])('%j', (text, expected) => {
    expect(parsePluginInput(text)).toEqual(expected)
  })

  test('of any text is read or none, and what was put together comes back', () => {
    const value = fc.string({ minLength: 1 }).filter((text) => !text.includes(';'))
    fc.assert(
      fc.property(value, value, (objectId, secretUri) => {
        expect(parsePluginInput(`ObjectId=${objectId};SecretUri=${secretUri}`)).toEqual({ objectId, secretUri })
      }),
    )
    fc.assert(fc.property(fc.string(), (text) => void parsePluginInput(text)))
  })
})
