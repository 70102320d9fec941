import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import type { Resolve, ServerRecord } from '../../src/base/srv.ts'
import { parseKrb5Conf, readKrb5Conf } from '../../src/kerberos/krb5-conf.ts'
import { locateKdcs } from '../../src/kerberos/locate-kdcs.ts'
import { failure } from '../contract/provider-contract.ts'

const invalid = expect.objectContaining({ code: 'CONFIG_INVALID' })

/** `path = value` for each relation of a text. */
const said = (text: string) =>
  parseKrb5Conf(text, 'x').flatMap((each) =>
    each.kind === 'relation' ? [`${each.path.join('.')} = ${each.value}`] : [],
  )

describe('the text of a krb5.conf', () => {
  test('has sections, relations, groups and comments', () => {
    const text = `
nothing before the first section counts, not even this
  [indented]
  a = b
[libdefaults]
# a comment
  ; another
\tdefault_realm = AD.TEST\t
  dns_lookup_kdc=false
[realms]
  AD.TEST = {
    kdc = dc1.ad.test:10088
    kdc = [2001:db8::1]:88
    v4_instance_convert = {
      rcmd = host
    }
    kdc = dc2.ad.test   # no comment
  }
  B.TEST =
  {
    kdc = b
  }
[libdefaults]
  forwardable = true\r
`
    expect(said(text)).toEqual([
      'libdefaults.default_realm = AD.TEST',
      'libdefaults.dns_lookup_kdc = false',
      'realms.AD.TEST.kdc = dc1.ad.test:10088',
      'realms.AD.TEST.kdc = [2001:db8::1]:88',
      'realms.AD.TEST.v4_instance_convert.rcmd = host',
      'realms.AD.TEST.kdc = dc2.ad.test   # no comment',
      'realms.B.TEST.kdc = b',
      'libdefaults.forwardable = true',
    ])
  })

  test('has values in quotes, up to the next quote, with escapes', () => {
    expect(said('[s]\na = " x\\n\\"y\\\\\\q " z\nb = ""\nc = "open')).toEqual([
      's.a =  x\n"y\\q ',
      's.b = ',
      's.c = open',
    ])
  })

  test('may make a section final, or a group; a star after a tag does nothing, as in MIT', () => {
    expect(said('[s]\na* = 1\na = 2')).toEqual(['s.a = 1', 's.a = 2'])
    const finals = parseKrb5Conf('[s]*\ng* = {\n}\nh = {\n}*', 'x').flatMap((each) =>
      each.kind === 'final' ? [each.path.join('.')] : [],
    )
    expect(finals).toEqual(['s', 's.g', 's.h'])
  })

  test('may include files and folders, anywhere at the start of a line', () => {
    const statements = parseKrb5Conf('include /a b\n[s]\nincludedir /d  \nmodule = x\n include = y\n', 'x')
    expect(statements.map((each) => ('file' in each ? `${each.kind} ${each.file}` : each.path.join('.')))).toEqual([
      'include /a b',
      'includedir /d',
      's.module',
      's.include',
    ])
    expect(parseKrb5Conf('module /lib/x.so:y\n', 'x')).toEqual([])
  })

  test.each([
    ['a relation without =', '[s]\nfoo bar', 'x, line 2: expected tag = value'],
    ['a tag of two words', '[s]\nfoo bar = baz', 'x, line 2'],
    ['no tag', '[s]\n= baz', 'x, line 2'],
    ['a brace too many', '[s]\n}', 'x, line 2: a } without its {'],
    ['a section within braces', '[s]\na = {\n[t]\n}', 'x, line 3: a section within braces'],
    ['a section that does not end', '[s', 'x, line 1: expected [section]'],
    ['something after a section', '[s] x', 'x, line 1'],
    ['no brace after an open relation', '[s]\na =\nb = c', 'x, line 3: expected {'],
    ['braces without end', `[s]\n${'a = {\n'.repeat(20)}`, 'x, line 17: braces too deep'],
    ['more than any has', `[s]\n${'#'.repeat(1 << 20)}`, 'x: more than 1 MiB'],
  ])('with %s is refused, by its line', (_what, text, message) => {
    expect(() => parseKrb5Conf(text, 'x')).toThrow(invalid)
    expect(() => parseKrb5Conf(text, 'x')).toThrow(message)
  })

  test('of any characters up to 64 KiB is read or refused, and in no time', () => {
    const token = fc.constantFrom(
      '[',
      ']',
      '{',
      '}',
      '=',
      '*',
      '"',
      '\\',
      '\n',
      ' ',
      '#',
      'kdc',
      'include ',
      'AD.TEST',
      '\0',
    )
    const text = fc.oneof(
      fc.array(token, { maxLength: 200 }).map((each) => `[s]\n${each.join('')}`),
      fc.string({ unit: 'binary', maxLength: 1 << 16, size: 'max' }),
      fc.tuple(token, fc.nat(1 << 15)).map(([one, count]) => `[s]\n${one.repeat(count)}`),
    )
    const started = performance.now()
    fc.assert(
      fc.property(text, (junk) => {
        try {
          parseKrb5Conf(junk, 'x')
        } catch (error) {
          if (!(error instanceof GmsaError)) throw error
          expect(error).toEqual(invalid)
        }
      }),
    )
    expect(performance.now() - started).toBeLessThan(15_000)
  })
})

describe('the files that KRB5_CONFIG names', () => {
  let folder: string
  const file = (name: string) => join(folder, name)
  const write = (name: string, text: string) => writeFile(file(name), text)
  const kdcs = async (...names: readonly string[]) =>
    (await readKrb5Conf(names.map(file).join(':'))).all('realms', 'R', 'kdc')
  const naming = (...hosts: readonly string[]) =>
    `[realms]\nR = {\n${hosts.map((host) => `kdc = ${host}\n`).join('')}}\n`

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'krb5-conf-'))
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  test('add up, in their order; the first value counts where there is one', async () => {
    await write('a', naming('one', 'two'))
    await write('b', naming('three'))
    expect(await kdcs('a', 'b')).toEqual(['one', 'two', 'three'])
    expect((await readKrb5Conf(`${file('b')}:${file('a')}`)).first('realms', 'R', 'kdc')).toBe('three')
  })

  test('need not be there', async () => {
    await write('a', naming('one'))
    expect(await kdcs('none', 'a')).toEqual(['one'])
    expect(await kdcs('none')).toEqual([])
    expect((await readKrb5Conf(`:${file('a')}:`)).all('realms', 'R', 'kdc')).toEqual(['one'])
  })

  test('may be folders, of which files with common names count, in the order of their names', async () => {
    await mkdir(file('d'))
    for (const name of ['b', 'a-1', 'c.conf', '.hidden.conf', 'x.rpmsave', 'y~']) await write(`d/${name}`, naming(name))
    expect(await kdcs('d')).toEqual(['a-1', 'b', 'c.conf'])
    await write('a', `includedir ${file('d')}\n${naming('last')}`)
    expect(await kdcs('a')).toEqual(['a-1', 'b', 'c.conf', 'last'])
  })

  test('include others in their place, which know nothing of where they stand', async () => {
    await write('inner', naming('inner'))
    await write('a', `[realms]\nR = {\nkdc = before\ninclude ${file('inner')}\nkdc = after\n}\n`)
    expect(await kdcs('a')).toEqual(['before', 'inner', 'after'])
  })

  test('must be there when they are included, and not include themselves', async () => {
    await write('a', `include ${file('none')}\n`)
    expect((await failure(kdcs('a'), 'CONFIG_INVALID')).message).toContain('none: can not be read: ENOENT')
    await write('b', `includedir ${file('none')}\n`)
    await failure(kdcs('b'), 'CONFIG_INVALID')
    await write('c', `include ${file('d')}\n`)
    await write('d', `include ${file('c')}\n`)
    expect((await failure(kdcs('c'), 'CONFIG_INVALID')).message).toContain('c: includes itself')
  })

  test('end a group or a section with a star, for the files after them', async () => {
    await write('b', naming('three'))
    await write('c', '[realms]\nR = {\nkdc = one\n}*\nR = {\nkdc = two\n}\n')
    expect(await kdcs('c', 'b')).toEqual(['one', 'two'])
    await write('d', '[realms]*\nR = {\nkdc = one\n}\n')
    expect(await kdcs('d', 'b')).toEqual(['one'])
  })

  describe('say where the KDCs of a realm are', () => {
    const record = (name: string, port = 88, priority = 0): ServerRecord => ({ name, port, priority, weight: 0 })
    /** A DNS that holds these names and says ENOTFOUND for all others. */
    const dns =
      (zone: Readonly<Record<string, readonly ServerRecord[]>>): Resolve =>
      async (name) => {
        const found = zone[name]
        if (found) return found
        throw Object.assign(new Error(`querySrv ENOTFOUND ${name}`), { code: 'ENOTFOUND' })
      }
    const noDns: Resolve = () => expect.unreachable('the DNS is not to be asked')
    const locate = (realm: string, resolve: Resolve) =>
      locateKdcs({ realm, config: file('krb5.conf'), random: () => 0, resolve })
    const [udp, tcp] = ['_kerberos._udp.AD.TEST', '_kerberos._tcp.AD.TEST']

    test('by name, with port or without, and in no other order', async () => {
      await write(
        'krb5.conf',
        '[realms]\nAD.TEST = {\nkdc = dc2.ad.test:10088\nkdc = dc1.ad.test\nkdc = [::1]:89\nkdc = [::1]\n}\n',
      )
      expect(await locate('AD.TEST', noDns)).toEqual({
        kdcs: [
          { host: 'dc2.ad.test', port: 10088 },
          { host: 'dc1.ad.test', port: 88 },
          { host: '::1', port: 89 },
          { host: '::1', port: 88 },
        ],
        udpPreferenceLimit: 1465,
      })
    })

    test('not those of another realm, whose name differs in case only', async () => {
      await write('krb5.conf', '[realms]\nad.test = {\nkdc = wrong\n}\n')
      expect((await locate('AD.TEST', dns({ [udp]: [record('dc1')] }))).kdcs).toHaveLength(1)
    })

    test('and from which size on TCP comes first', async () => {
      await write('krb5.conf', '[libdefaults]\nudp_preference_limit = 1\n[realms]\nAD.TEST = {\nkdc = dc1\n}\n')
      expect((await locate('AD.TEST', noDns)).udpPreferenceLimit).toBe(1)
      await write('krb5.conf', '[libdefaults]\nudp_preference_limit = soon\n[realms]\nAD.TEST = {\nkdc = dc1\n}\n')
      expect((await locate('AD.TEST', noDns)).udpPreferenceLimit).toBe(1465)
    })

    test('or leave it to the DNS, whose records for both transports are one list', async () => {
      const zone = {
        [udp]: [record('dc2.ad.test', 88, 20), record('dc1.ad.test', 88, 10)],
        [tcp]: [record('DC1.ad.test', 88, 10), record('dc3.ad.test', 750, 5), record('dc2.ad.test', 88, 20)],
      }
      expect((await locate('AD.TEST', dns(zone))).kdcs).toEqual([
        { host: 'dc3.ad.test', port: 750, transport: 'tcp' },
        { host: 'dc1.ad.test', port: 88 },
        { host: 'dc2.ad.test', port: 88 },
      ])
    })

    test('one of the two names is enough', async () => {
      expect((await locate('AD.TEST', dns({ [udp]: [record('dc1')] }))).kdcs).toEqual([
        { host: 'dc1', port: 88, transport: 'udp' },
      ])
    })

    test.each(['false', 'no', 'n', '0', 'off', 'f', 'nil'])('unless it is off: dns_lookup_kdc = %s', async (value) => {
      await write('krb5.conf', `[libdefaults]\ndns_lookup_kdc = ${value}\n`)
      const error = await failure(locate('AD.TEST', noDns), 'STORE_UNAVAILABLE')
      expect(error.reason).toBe('not-found')
      expect(error.message).toContain('dns_lookup_kdc')
    })

    test.each(['true', 'YES', 'y', '1', 'on', 'T'])('which it is not with %s', async (value) => {
      await write('krb5.conf', `[libdefaults]\ndns_lookup_kdc = ${value}\n`)
      expect((await locate('AD.TEST', dns({ [tcp]: [record('dc1')] }))).kdcs).toHaveLength(1)
    })

    test('nobody knows one', async () => {
      const error = await failure(locate('AD.TEST', dns({})), 'STORE_UNAVAILABLE')
      expect(error).toMatchObject({ reason: 'not-found', hint: expect.stringContaining('krb5.conf') })
      expect(error.message).toContain(`SRV ${udp} and ${tcp}: ENOTFOUND`)
      await failure(locate('AD.TEST', dns({ [udp]: [record('.', 0)] })), 'STORE_UNAVAILABLE')
    })

    test('those behind a proxy are not for us', async () => {
      await write('krb5.conf', '[realms]\nAD.TEST = {\nkdc = https://kkdcp.ad.test/KdcProxy\nkdc = dc1:99999\n}\n')
      const error = await failure(locate('AD.TEST', noDns), 'STORE_UNAVAILABLE')
      expect(error.message).toContain('neither UDP nor TCP')
    })

    test('a broken file is an error, not a reason to ask the DNS', async () => {
      await write('krb5.conf', '[realms]\nAD.TEST\n')
      expect((await failure(locate('AD.TEST', noDns), 'CONFIG_INVALID')).message).toContain('line 2')
    })
  })
})
