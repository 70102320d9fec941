import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CREDENTIAL, makeRig, type Rig } from '../fakes/rig.ts'

describe('GET /provider', () => {
  let rig: Rig

  beforeAll(async () => {
    rig = await makeRig({
      secrets: {
        'no-username.json': '{"password":"p","domainName":"d"}',
        'no-password.json': '{"username":"u","domainName":"d"}',
        'no-domain.json': '{"username":"u","password":"p"}',
        'empty.json': '{}',
        'awkward.json': JSON.stringify({ username: 'ü<&>', password: '<&>"\\/\u2028\u{1f511}', domainName: 'AD' }),
      },
      config: {
        accounts: new Map(
          ['test-secret', 'no-username', 'no-password', 'no-domain', 'empty', 'awkward', 'absent'].map((name) => [
            name,
            { provider: 'local', options: {} },
          ]),
        ),
      },
    })
  })
  afterAll(() => rig[Symbol.asyncDispose]())

  test('H1: answers with the three members in order and nothing else', async () => {
    const reply = await rig.provider('test-secret')
    expect(reply.status).toBe(200)
    expect(reply.body).toBe('{"username":"username","password":"password","domainName":"ad.domain"}')
    expect(reply.headers['content-type']).toBe('application/json; charset=utf-8')
    expect(reply.headers['cache-control']).toBe('no-store')
  })

  test.each([
    ['H2', 'no-username'],
    ['H3', 'no-password'],
    ['H4', 'no-domain'],
    ['H5', 'empty'],
  ])('%s: a record that lacks a member is absent (%s)', async (_id, account) => {
    const reply = await rig.provider(account)
    expect(reply).toMatchObject({ status: 404, body: '' })
    expect(reply.headers['gmsa-error']).toBe('MATERIAL_MALFORMED')
    expect(reply.headers['content-length']).toBe('0')
  })

  test('H6, H7: an account that does not exist is absent', async () => {
    const reply = await rig.provider('absent')
    expect(reply).toMatchObject({ status: 404, body: '' })
    expect(reply.headers['gmsa-error']).toBe('ACCOUNT_NOT_FOUND')
  })

  test.each(['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])('H8: %s is answered 404 without body', async (method) => {
    expect(await rig.provider('test-secret', { method })).toMatchObject({ status: 404, body: '' })
  })

  test.each(['/invalid', '/provider/', '/Provider', '/'])('H9: %s is answered 404 without body', async (path) => {
    const reply = await rig.get(path, { headers: { object: 'test-secret' } })
    expect(reply).toMatchObject({ status: 404, body: '' })
    expect(reply.headers['content-length']).toBe('0')
  })

  test('H10, H11: without the header, with another or an empty one the answer is 400 without body', async () => {
    for (const headers of [{}, { object2: 'test-secret' }, { object: '' }]) {
      const reply = await rig.get('/provider', { headers })
      expect(reply).toMatchObject({ status: 400, body: '' })
      expect(reply.headers['gmsa-error']).toBe('REQUEST_INVALID')
    }
  })

  test('the query string is ignored, and the first of several headers holds', async () => {
    expect(await rig.get('/provider?x=1', { headers: { object: 'test-secret' } })).toMatchObject({ status: 200 })
    expect(await rig.get('/provider', { headers: { object: ['test-secret', 'absent'] } })).toMatchObject({
      status: 200,
    })
    expect(await rig.get('/provider', { headers: { object: ['absent', 'test-secret'] } })).toMatchObject({
      status: 404,
    })
  })

  test('characters that JSON or HTML treat specially come through', async () => {
    const reply = await rig.provider('awkward')
    expect(JSON.parse(reply.body)).toEqual({ username: 'ü<&>', password: '<&>"\\/\u2028\u{1f511}', domainName: 'AD' })
  })

  test('100 parallel calls of one client all get the credential', async () => {
    const replies = await Promise.all(Array.from({ length: 100 }, () => rig.provider('test-secret')))
    for (const reply of replies) expect(JSON.parse(reply.body)).toEqual(CREDENTIAL)
  })
})
