import { afterEach, describe, expect, test } from 'vitest'
import { failure } from '../../contract/provider-contract.ts'
import { movableClock } from '../../fakes/clock.ts'
import { GOOD, openRig, type RigOptions, type VaultRig } from './rig.ts'

let open: VaultRig | undefined

async function start(options: Omit<RigOptions, 'clock'> = {}, clock = movableClock()): Promise<VaultRig> {
  open = await openRig({ clock, ...options })
  return open
}
afterEach(async () => {
  await open?.[Symbol.asyncDispose]()
  expect(open?.vault.violations).toEqual([])
})

const MOUNT_QUESTION = 'sys/internal/ui/mounts/kv'

describe('the version of the engine', () => {
  test.each([1, 2] as const)('(%d) is asked once, and again after ten minutes', async (kvVersion) => {
    const clock = movableClock()
    const { vault, read } = await start({ server: { kvVersion } }, clock)
    for (let index = 0; index < 3; index += 1) expect(await read()).toBe(GOOD.password)
    expect(vault.requests(MOUNT_QUESTION)).toBe(1)
    await clock.advance(10 * 60_000)
    await read()
    expect(vault.requests(MOUNT_QUESTION)).toBe(2)
  })

  test.each([1, 2] as const)('(%d) is not asked where it is configured', async (kvVersion) => {
    const { vault, read } = await start({ server: { kvVersion, hidesMounts: true }, options: { kvVersion } })
    expect(await read()).toBe(GOOD.password)
    expect(vault.requests(MOUNT_QUESTION)).toBe(0)
  })

  test('that we may not know is denied, and the hint names the option', async () => {
    const { read } = await start({ server: { hidesMounts: true } })
    const error = await failure(read(), 'STORE_DENIED')
    expect(error).toMatchObject({ reason: 'not-permitted', hint: expect.stringContaining('kvVersion') })
  })

  test('1 where it is 2 says so', async () => {
    const { read } = await start({ options: { kvVersion: 1 } })
    expect((await failure(read(), 'STORE_DENIED')).hint).toContain('kvVersion')
  })

  test('of another engine is none', async () => {
    const { read } = await start({ server: { engine: 'pki' } })
    expect((await failure(read(), 'STORE_DENIED')).message).toContain('of type pki')
  })

  test('of a path within the mount is none either', async () => {
    const { read, provider } = await start({ options: { mount: 'kv/gmsa' } })
    expect((await failure(read(), 'STORE_DENIED')).message).toContain('lies within the mount kv/')
    await failure(provider.probe(AbortSignal.timeout(5_000)), 'STORE_DENIED')
  })

  test('of nothing is none', async () => {
    const { read } = await start({ options: { mount: 'nowhere' } })
    expect(await failure(read(), 'STORE_DENIED')).toMatchObject({ reason: 'not-found' })
  })
})

describe('with KV version 2', () => {
  test('P4: the newest version is read, the pinned one where there is a pin, and the one before either', async () => {
    const { vault, read, readPrevious } = await start()
    vault.put('one', { ...GOOD, password: 'second' })
    vault.put('one', { ...GOOD, password: 'third' })
    expect(await read()).toBe('third')
    expect(await read('one', { version: null })).toBe('third')
    expect(await read('one', { version: 2 })).toBe('second')
    expect(await readPrevious()).toBe('second')
    expect(await readPrevious('one', { version: 2 })).toBe(GOOD.password)
  })

  test('there is nothing before the first version', async () => {
    const { readPrevious } = await start()
    await failure(readPrevious(), 'ACCOUNT_NOT_FOUND')
    await failure(readPrevious('one', { version: 1 }), 'ACCOUNT_NOT_FOUND')
    await failure(readPrevious('two'), 'ACCOUNT_NOT_FOUND')
  })

  test.each(['deleted', 'destroyed'] as const)(
    'a version that is %s is absent, and the message says so',
    async (how) => {
      const { vault, read, readPrevious } = await start()
      vault.put('one', { ...GOOD, password: 'second' })
      const end = how === 'deleted' ? vault.deleteVersion : vault.destroyVersion
      end('one', 1)
      expect((await failure(readPrevious(), 'ACCOUNT_NOT_FOUND')).message).toContain(`version 1 of kv/data/one`)
      end('one', 2)
      const { message } = await failure(read(), 'ACCOUNT_NOT_FOUND')
      expect(message).toContain('version 2 of kv/data/one')
      expect(message).toContain(`is ${how}`)
    },
  )

  test('a version that there is not is named', async () => {
    const { read } = await start()
    expect((await failure(read('one', { version: 9 }), 'ACCOUNT_NOT_FOUND')).message).toContain(
      'version 9 of kv/data/one',
    )
  })
})

describe('with KV version 1', () => {
  const server = { kvVersion: 1 } as const
  test('there are no versions, neither pinned nor before', async () => {
    const { vault, read, readPrevious } = await start({ server })
    vault.put('one', { ...GOOD, password: 'second' })
    expect(await read()).toBe('second')
    await failure(readPrevious(), 'ACCOUNT_NOT_FOUND')
    expect((await failure(read('one', { version: 1 }), 'ACCOUNT_NOT_FOUND')).message).toContain('KV version 1')
  })
})

describe('the path of a secret', () => {
  test('may have parts, and blanks and signs in them', async () => {
    const { vault, read } = await start()
    vault.put('team a/svc?x#y%2F', GOOD)
    expect(await read('team a/svc?x#y%2F')).toBe(GOOD.password)
    expect(vault.server.seen.at(-1)?.path).toBe('/v1/kv/data/team%20a/svc%3Fx%23y%252F')
  })

  test('has the prefix before it', async () => {
    const { vault, read } = await start({ options: { prefix: 'prod/gmsa' } })
    await failure(read(), 'ACCOUNT_NOT_FOUND')
    vault.put('prod/gmsa/one', { ...GOOD, password: 'prefixed' })
    expect(await read()).toBe('prefixed')
  })

  test.each(['/one', 'one/', 'a//b', '..', '../x', 'a/./b', 'a/../b', 'a\u0000b', 'a\nb', '\ud800'])(
    '%j is none, and nothing is asked',
    async (secret) => {
      const { vault, read } = await start()
      await failure(read(secret), 'ACCOUNT_NOT_FOUND')
      expect(vault.server.seen).toEqual([])
    },
  )

  test('is refused by name where a policy forbids it, with the policy that would do', async () => {
    const { vault, read } = await start()
    vault.forbid('kv/data/one')
    const error = await failure(read(), 'STORE_DENIED')
    expect(error.hint).toContain('path "kv/data/one" { capabilities = ["read"] }')
    expect(vault.logIns()).toBe(1)
    expect(vault.requests('auth/token/lookup-self')).toBe(0)
  })

  test('is refused all the same in words that leave open whether the token is known: it is looked up', async () => {
    const { vault, read } = await start()
    vault.server.fail({ status: 403, body: { errors: ['no'] } }, ({ path }) => path.includes('/kv/data/'))
    await failure(read(), 'STORE_DENIED')
    expect(vault.requests('auth/token/lookup-self')).toBe(1)
    expect(vault.logIns()).toBe(1)
  })
})

test('a mount of several parts, a namespace, and a server behind a path are found', async () => {
  const rig = await start({
    server: { mount: 'team/kv', namespace: 'org/eu' },
    options: { mount: 'team/kv', namespace: 'org/eu' },
  })
  expect(await rig.read()).toBe(GOOD.password)
  await rig.provider.probe(AbortSignal.timeout(5_000))
  expect(new Set(rig.vault.server.seen.map(({ headers }) => headers['x-vault-namespace']))).toEqual(new Set(['org/eu']))
})

test('a namespace that there is not is no absent account', async () => {
  const { read } = await start({ server: { namespace: 'org' }, options: { namespace: 'gro' } })
  expect(await failure(read(), 'STORE_DENIED')).toMatchObject({ reason: 'not-found' })
})

describe('the probe', () => {
  const probe = ({ provider }: VaultRig) => provider.probe(AbortSignal.timeout(5_000))

  test('proves the token and the mount, and reads no secret', async () => {
    const rig = await start()
    await probe(rig)
    expect(rig.vault.requests('auth/token/lookup-self')).toBe(1)
    expect(rig.vault.requests(MOUNT_QUESTION)).toBe(1)
    expect(rig.vault.server.seen.some(({ path }) => path.includes('/kv/data/'))).toBe(false)
  })

  test('is content where a policy forbids us to look ourselves up', async () => {
    const rig = await start()
    rig.vault.forbid('auth/token/')
    await probe(rig)
    expect(rig.vault.logIns()).toBe(1)
  })

  test('says that the server is sealed, and recovers when it is not any more', async () => {
    const rig = await start({ server: { namespace: 'org' }, options: { namespace: 'org' } })
    await probe(rig)
    rig.vault.ail(503)
    expect((await failure(probe(rig), 'STORE_UNAVAILABLE')).message).toContain('is sealed')
    expect((await failure(rig.read(), 'STORE_UNAVAILABLE')).message).toContain('is sealed')
    rig.vault.ail()
    await probe(rig)
  })

  test('is not content with a page for people, whose health it does not ask', async () => {
    const rig = await start()
    await probe(rig)
    rig.vault.server.fail('not-json')
    expect(await failure(probe(rig), 'STORE_UNAVAILABLE')).toMatchObject({ reason: 'protocol' })
    expect(rig.vault.requests('sys/health')).toBe(0)
  })

  test.each([
    [429, 'is a standby that does not forward'],
    [472, 'disaster recovery'],
    [474, 'does not reach its active node'],
    [501, 'is not initialized'],
    [530, 'was removed from its cluster'],
  ])('asks the health where the server does not serve: %i', async (status, words) => {
    const rig = await start()
    await probe(rig)
    rig.vault.ail(status)
    expect((await failure(probe(rig), 'STORE_UNAVAILABLE')).message).toContain(words)
  })
})
