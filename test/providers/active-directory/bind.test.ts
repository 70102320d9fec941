import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client, InvalidCredentialsError } from 'ldapts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GmsaError } from '../../../src/base/errors.ts'
import { silentLog } from '../../../src/base/log.ts'
import { Secret } from '../../../src/base/secret.ts'
import { type BindOptions, openBind } from '../../../src/providers/active-directory/bind.ts'
import type { Connection } from '../../../src/providers/active-directory/connection.ts'
import { bindName } from '../../../src/providers/active-directory/directory.ts'
import type { ProviderContext } from '../../../src/providers/provider.ts'
import { printed } from '../../contract/printed.ts'
import { failure, rejection } from '../../contract/provider-contract.ts'
import { movableClock } from '../../fakes/clock.ts'

const signal = AbortSignal.timeout(20_000)
const wrong = () => new InvalidCredentialsError('80090308: LdapErr: DSID-0C0903A9, data 52e, v1db1')

/** A controller that takes one password, and remembers what it was shown. */
function controller(password: string) {
  const shown: string[] = []
  const state = { password }
  class FakeClient extends Client {
    override async bind(name: unknown, given?: string): Promise<void> {
      shown.push(`${name} ${given}`)
      if (given !== state.password) throw wrong()
    }
  }
  const connection: Connection = {
    host: 'dc1',
    transport: 'ldaps',
    client: new FakeClient({ url: 'ldap://nobody.invalid' }),
    secure: async () => {},
    isOpen: () => true,
    close: () => {},
  }
  return { connection, shown, state }
}

function fromStore(passwords: () => string, previous?: () => string) {
  const clock = movableClock()
  const lines: string[] = []
  const log = { ...silentLog, warn: (fields: object, line: string) => lines.push(JSON.stringify(fields) + line) }
  const readCredential: ProviderContext['readCredential'] = async (_provider, _account, _signal, which) => {
    if (which === 'previous' && !previous) throw new GmsaError('ACCOUNT_NOT_FOUND', 'none before')
    const word = which === 'previous' ? previous : passwords
    return { kind: 'credential', username: 'svc-ccg', domainName: 'ad.test', password: Secret.fromText(word?.() ?? '') }
  }
  const tries: string[] = []
  const onTry = (credential: string, outcome: string) => void tries.push(`${credential} ${outcome}`)
  const bind = openBind('ad', { provider: 'local', account: 'svc-ccg' }, { clock, log, readCredential }, onTry)
  return { bind, clock, lines, tries }
}

describe('the name in a log-on', () => {
  test.each([
    ['svc', 'ad.test', 'svc@ad.test'],
    ['svc', 'AD', 'AD\\svc'],
    ['svc@other.test', 'ad.test', 'svc@other.test'],
    ['AD\\svc', 'ad.test', 'AD\\svc'],
  ])('%s of %s is %s', (username, domainName, name) => {
    expect(bindName(username, domainName)).toBe(name)
  })
})

describe('a log-on with a credential of another store', () => {
  test('shows the current password each time', async () => {
    let password = 'one'
    const { bind } = fromStore(() => password)
    const { connection, shown, state } = controller('one')
    await bind.logOn(connection, signal)
    password = 'two'
    state.password = 'two'
    await bind.logOn(connection, signal)
    expect(shown).toEqual(['svc-ccg@ad.test one', 'svc-ccg@ad.test two'])
  })

  test('a password that changed while it was being tried is tried once more', async () => {
    const words = ['old', 'new']
    const { bind } = fromStore(() => words.shift() ?? 'new')
    const { connection, shown } = controller('new')
    await bind.logOn(connection, signal)
    expect(shown).toEqual(['svc-ccg@ad.test old', 'svc-ccg@ad.test new'])
  })

  test('and not a third time', async () => {
    const words = ['one', 'two', 'three', 'four']
    const { bind } = fromStore(() => words.shift() ?? '')
    const { connection, shown } = controller('right')
    await failure(bind.logOn(connection, signal), 'STORE_DENIED')
    expect(shown).toHaveLength(2)
  })

  test('a wrong password rests for half a minute, then longer; another one is tried at once', async () => {
    let password = 'wrong'
    const { bind, clock } = fromStore(() => password)
    const { connection, shown } = controller('right')
    const tries = async () => {
      await failure(bind.logOn(connection, signal), 'STORE_DENIED')
      return shown.length
    }
    expect([await tries(), await tries()]).toEqual([1, 1])
    await clock.advance(30_000)
    expect([await tries(), await tries()]).toEqual([2, 2])
    await clock.advance(59_999)
    expect(await tries()).toBe(2)
    await clock.advance(1)
    expect(await tries()).toBe(3)
    // A day of it: less than a hundred tries, and no two within the quarter of an hour.
    for (let minute = 0; minute < 24 * 60; minute++) {
      await clock.advance(60_000)
      await tries()
    }
    expect(shown.length).toBeLessThan(110)
    password = 'right'
    await bind.logOn(connection, signal)
  })

  describe('where the store keeps the one before', () => {
    const rotating = () => ({
      ...fromStore(
        () => 'new-Kanari',
        () => 'old-Kanari',
      ),
      ...controller('old-Kanari'),
    })
    const tried = (shown: readonly string[]) => shown.map((each) => each.split(' ')[1]?.split('-')[0])

    test('P4: that is tried once when the current one is refused, counted, and said in the log once', async () => {
      const { bind, connection, shown, lines, tries } = rotating()
      await bind.logOn(connection, signal)
      await bind.logOn(connection, signal)
      expect(tried(shown)).toEqual(['new', 'old', 'old'])
      expect(tries).toEqual(['current refused', 'previous ok', 'previous ok'])
      expect(lines).toHaveLength(1)
      expect(lines[0]).toMatch(/previous.*another credential/)
      expect(lines[0]).not.toContain('Kanari')
    })

    test('P4: the current one is tried again each half minute, and taken up when the directory has it', async () => {
      const { bind, connection, shown, state, clock, lines } = rotating()
      for (let time = 0; time < 20; time++) {
        await bind.logOn(connection, signal)
        await clock.advance(15_000)
      }
      expect(tried(shown).filter((each) => each === 'new')).toHaveLength(10)
      state.password = 'new-Kanari'
      await bind.logOn(connection, signal)
      expect(tried(shown).at(-1)).toBe('new')
      expect(lines).toHaveLength(2)
    })

    test('P4: when both are refused, the refusal of the current one is the answer, and both rest', async () => {
      const { bind, connection, shown, state } = rotating()
      state.password = 'another'
      const errors = [await failure(bind.logOn(connection, signal), 'STORE_DENIED')]
      errors.push(await failure(bind.logOn(connection, signal), 'STORE_DENIED'))
      expect(errors.map(({ reason }) => reason)).toEqual(['bad-password', 'bad-password'])
      expect(tried(shown)).toEqual(['new', 'old'])
    })

    test.each([
      ['is the same', () => 'new-Kanari'],
      ['cannot be read', () => expect.unreachable()],
    ])('nothing more is tried where it %s', async (_, previous) => {
      const { bind } = fromStore(() => 'new-Kanari', previous)
      const { connection, shown } = controller('old-Kanari')
      await failure(bind.logOn(connection, signal), 'STORE_DENIED')
      expect(tried(shown)).toEqual(['new'])
    })

    test('it is left alone for any other refusal', async () => {
      const { bind, connection, state, tries } = rotating()
      const disabled = new InvalidCredentialsError('80090308: LdapErr: DSID-0C0903A9, data 533, v1db1')
      Object.assign(connection.client, { bind: () => Promise.reject(disabled) })
      state.password = 'old-Kanari'
      expect((await failure(bind.logOn(connection, signal), 'STORE_DENIED')).reason).toBe('disabled')
      expect(tries).toEqual(['current failed'])
    })
  })

  test('names the password nowhere', async () => {
    const { bind } = fromStore(() => 'Kanari-pa55')
    const error = await failure(bind.logOn(controller('right').connection, signal), 'STORE_DENIED')
    expect(printed([error, bind])).not.toMatch(/Kanari|pa55/)
  })

  test.each([
    ['ACCOUNT_NOT_FOUND', 'STORE_DENIED'],
    ['MATERIAL_MALFORMED', 'STORE_DENIED'],
    ['CONFIG_INVALID', 'STORE_DENIED'],
    ['STORE_UNAVAILABLE', 'STORE_UNAVAILABLE'],
    ['STORE_TIMEOUT', 'STORE_TIMEOUT'],
  ] as const)('%s of that store is %s here, and ours alone', async (theirs, code) => {
    const readCredential = () => Promise.reject(new GmsaError(theirs, 'about the record', { hint: 'look there' }))
    const context = { clock: movableClock(), log: silentLog, readCredential }
    const bind = openBind('ad', { provider: 'local', account: 'svc-ccg' }, context)
    const error = await failure(bind.logOn(controller('x').connection, signal), code)
    expect(error.message).toMatch(/bind.*svc-ccg.*local.*about the record/)
    expect(error.hint).toBe('look there')
    expect(bind.isOurs(error)).toBe(true)
    expect(bind.isOurs(new GmsaError(code, error.message))).toBe(false)
  })
})

describe('a log-on with a password file', () => {
  let directory: string
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'gmsa-bind-'))
  })
  afterAll(() => rm(directory, { recursive: true, force: true }))
  const open = (passwordFile: string) => {
    const bind: BindOptions = { username: 'svc', domainName: 'ad.test', passwordFile }
    return openBind('ad', bind, { clock: movableClock(), log: silentLog })
  }

  test('reads it each time, without the line break at its end', async () => {
    const path = join(directory, 'password')
    await writeFile(path, 'one\n', { mode: 0o600 })
    const { connection, shown, state } = controller('one')
    const bind = open(path)
    await bind.logOn(connection, signal)
    await writeFile(path, 'two\r\n')
    state.password = 'two'
    await bind.logOn(connection, signal)
    expect(shown).toEqual(['svc@ad.test one', 'svc@ad.test two'])
  })

  test.each([
    ['is empty', '', 0o600],
    ['holds a line break only', '\n', 0o600],
    ['can be read by others', 'one', 0o644],
  ])('one that %s is refused before anything is sent', async (_, contents, mode) => {
    const path = join(directory, `file-${mode}-${contents.length}`)
    await writeFile(path, contents, { mode })
    const { connection, shown } = controller('one')
    const bind = open(path)
    const error = await failure(bind.logOn(connection, signal), 'STORE_DENIED')
    expect(bind.isOurs(error)).toBe(true)
    expect(shown).toEqual([])
  })

  test('one that is missing is refused, and not taken for the absence of the account asked for', async () => {
    await failure(open(join(directory, 'nothing')).logOn(controller('x').connection, signal), 'STORE_DENIED')
  })
})

describe('a log-on by certificate', () => {
  test('reads the files for each connection, and a missing one is ours', async () => {
    const bind = openBind(
      'ad',
      { certificate: '/nowhere/c', key: '/nowhere/k' },
      { clock: movableClock(), log: silentLog },
    )
    const error = await failure(bind.tls(), 'STORE_UNAVAILABLE')
    expect(error.message).toContain('/nowhere/')
    expect(bind.isOurs(error)).toBe(true)
  })
})

test.each<[string, BindOptions]>([
  ['nothing', {}],
  ['half a form', { provider: 'local' }],
  ['two forms', { provider: 'local', account: 'a', certificate: 'c', key: 'k' }],
  ['a form and a half', { username: 'u', domainName: 'd', passwordFile: 'p', account: 'a' }],
  ['itself', { provider: 'ad', account: 'a' }],
])('a bind with %s is refused', async (_, bind) => {
  const context: ProviderContext = {
    clock: movableClock(),
    log: silentLog,
    readCredential: () => Promise.reject(new Error('not asked')),
  }
  const error = await rejection((async () => openBind('ad', bind, context))())
  expect(error).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining('providers.ad.bind') })
})
