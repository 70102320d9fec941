import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { PROVIDER_TYPES } from '../../src/providers/index.ts'
import { problemsOf as problemsIn } from './problems-of.ts'

const folder = mkdtempSync(join(tmpdir(), 'config-'))
afterAll(() => rmSync(folder, { recursive: true }))

const problemsOf = (text: string | Uint8Array, name = 'gmsa.yaml') => problemsIn(text, join(folder, name))

/** The least that is valid, in four lines: what is broken starts in line 5. */
const SOUND = `tls: { certificate: tls.crt, key: tls.key, clientCa: ca.crt }
providers: { local: { type: file, directory: secrets } }
accounts:
  svc: { provider: local }
`
const ACCOUNT = "an account name: lower-case letters, digits, inner dashes and dots, 253 characters at most; or '*'"
const PERMISSION = 'credential, keys, keytab, managed-password, credential-spec or admin'
const NAMESPACE =
  'ccg.namespace: expected lower-case letters, digits and inner dashes, 63 characters at most, as Kubernetes names namespaces'
const FINGERPRINT =
  'clients[0].match.fingerprint256: expected a SHA-256 fingerprint: 64 hex digits, with or without colons'
const DURATION = 'a duration such as 30s, 5m or 10h5m'

const ccg = (namespace: string) =>
  `${SOUND}ccg: { namespace: ${namespace}, directory: d, client: { certificate: c, key: k } }\n`
const client = (match: string) => `${SOUND}clients:\n- { match: ${match}, allow: [credential], accounts: [svc] }\n`

const CASES: readonly { name: string; text: string; problems: readonly string[] }[] = [
  {
    name: 'an empty file lacks what is required',
    text: '',
    problems: [
      '1:1: tls: required: expected a mapping of certificate, key, clientCa, crl, crlExpired',
      '1:1: providers: required: expected a mapping with at least one entry',
      '1:1: accounts: required: expected a mapping with at least one entry',
    ],
  },
  { name: 'a list', text: '- tls', problems: ['1:1: expected a mapping of listen, tls, providers and so on'] },
  {
    name: 'empty sections',
    text: 'tls:\nproviders: {}\naccounts: []\n',
    problems: [
      '1:1: tls: expected a mapping of certificate, key, clientCa, crl, crlExpired',
      '2:12: providers: expected a mapping with at least one entry',
      '3:11: accounts: expected a mapping with at least one entry',
    ],
  },
  {
    name: 'unknown options on every level, with what was meant',
    text: `${SOUND}listn: { port: 1 }\nlisten: { prot: 1 }\nlog: { Level: info }\nzzz: 1\n`,
    problems: [
      '5:1: listn: unknown option',
      '6:11: listen.prot: unknown option, did you mean port?',
      '7:8: log.Level: unknown option, did you mean level?',
      '8:1: zzz: unknown option',
    ],
  },
  {
    name: 'a misspelt section',
    text: `${SOUND}listn: { port: 1 }\n`,
    problems: ['5:1: listn: unknown option, did you mean listen?'],
  },
  {
    name: 'options of a provider are those of its type',
    text: `tls: { certificate: tls.crt, key: tls.key, clientCa: ca.crt }
providers:
  local: { type: file, directry: secrets, allow_readable: true, url: x }
accounts: { svc: { provider: local, samAccountName: x } }
`,
    problems: [
      '3:3: providers.local.directory: required: expected a path',
      '3:24: providers.local.directry: unknown option, did you mean directory?',
      '3:43: providers.local.allow_readable: unknown option, did you mean allowReadable?',
      '3:65: providers.local.url: unknown option',
      '4:53: accounts.svc.samAccountName: expected a sAMAccountName such as web01$, with the $ at its end',
    ],
  },
  {
    name: 'what accounts say of gMSAs',
    text: `tls: { certificate: tls.crt, key: tls.key, clientCa: ca.crt }
providers: { local: { type: file, directory: secrets } }
keys: { keepPrevious: 10 hours }
accounts:
  a: { provider: local, domain: AD, servicePrincipalNames: [HTTP], enctypes: [aes512], kvno: 0 }
  b: { provider: local, salt: '', managedPasswordInterval: 0, enctypes: [] }
  c: { provider: local, salt: null, samAccountName: c$, domain: ad.test, servicePrincipalNames: [], kvno: 4294967295 }
`,
    problems: [
      '3:23: keys.keepPrevious: expected a duration such as 30s, 5m or 10h5m',
      '5:33: accounts.a.domain: expected the DNS name of a domain such as ad.example.com',
      '5:61: accounts.a.servicePrincipalNames[0]: expected a service principal name such as HTTP/web01.ad.example.com',
      '5:79: accounts.a.enctypes[0]: expected aes256, aes128, aes256-sha2, aes128-sha2 or rc4, did you mean aes128?',
      '5:94: accounts.a.kvno: expected an integer from 1 to 4294967295',
      '6:31: accounts.b.salt: expected text or null',
      '6:60: accounts.b.managedPasswordInterval: expected an integer from 1 to 21350397',
      '6:73: accounts.b.enctypes: expected a list of 1 or more: each aes256, aes128, aes256-sha2, aes128-sha2 or rc4',
    ],
  },
  {
    name: 'provider types that do not exist',
    text: `tls: { certificate: tls.crt, key: tls.key, clientCa: ca.crt }
providers:
  a: { type: fil, whatever: 1 }
  b: { type: consul }
  c: { directory: x }
  d: { type: 7 }
  e: file
accounts:
  svc: { provider: a }
`,
    problems: [
      '3:14: providers.a.type: unknown provider type, did you mean file?',
      `4:14: providers.b.type: unknown provider type: this build has ${PROVIDER_TYPES.map(({ type }) => type).join(', ')}`,
      '5:3: providers.c.type: required: expected text',
      '6:14: providers.d.type: expected text: put it in quotes',
      '7:6: providers.e: expected a mapping of type',
    ],
  },
  {
    name: 'entries with the names of keywords',
    text: `tls: { certificate: tls.crt, key: tls.key, clientCa: ca.crt }
providers: { propertyNames: { type: file, directory: 1 }, constructor: { type: file, directory: [] } }
accounts: { required: { provider: propertyNames, secret: '' }, constructor: { provider: constructor, x: 1 } }
`,
    problems: [
      '2:54: providers.propertyNames.directory: expected a path: put it in quotes',
      '2:97: providers.constructor.directory: expected a path',
      '3:58: accounts.required.secret: expected text',
      '3:102: accounts.constructor.x: unknown option',
    ],
  },
  {
    name: 'names of providers',
    text: `${SOUND.replace('local: {', '"lo cal": {')}`,
    problems: [
      '2:14: providers[?]: expected a name of letters, digits, dots, dashes and underscores, 63 characters at most',
      '4:20: accounts.svc.provider: no such provider, did you mean lo cal?',
    ],
  },
  {
    name: 'names of accounts and the providers they name',
    text: `${SOUND}  Web01: { provider: local }
  a..b: { provider: local }
  '../x': { provider: local }
  a: { provider: locla }
  b: { provider: constructor }
  c: {}
  d: local
  e: { provider: local, secrt: x }
  ${'f'.repeat(254)}: { provider: local }
`,
    problems: [
      `5:3: accounts.Web01: expected ${ACCOUNT}`,
      `6:3: accounts["a..b"]: expected ${ACCOUNT}`,
      `7:3: accounts[?]: expected ${ACCOUNT}`,
      '8:18: accounts.a.provider: no such provider, did you mean local?',
      '9:18: accounts.b.provider: no such provider',
      '10:3: accounts.c.provider: required: expected text',
      '11:6: accounts.d: expected a mapping of provider, secret, samAccountName, domain, servicePrincipalNames, enctypes, salt, kvno, managedPasswordInterval',
      '12:25: accounts.e.secrt: unknown option, did you mean secret?',
      `13:3: accounts[?]: expected ${ACCOUNT}`,
    ],
  },
  {
    name: "'*' without clients",
    text: `${SOUND}  '*': { provider: local }\n`,
    problems: ['5:8: accounts.*: needs a clients section that says who may read which names'],
  },
  {
    name: 'keys given twice',
    text: `${SOUND}  svc: { provider: local }\nlog: { level: info, level: debug }\ntls: {}\n`,
    problems: [
      '5:3: accounts.svc: given twice, first in line 4',
      '6:21: log.level: given twice, first in line 6',
      '7:1: tls: given twice, first in line 1',
    ],
  },
  {
    name: 'wrong types, and all of them at once',
    text: `${SOUND}listen: { hosts: 127.0.0.1, port: '8443' }
admin: { host: 1, port: 8443.5, statusPage: lopback }
cache: { maxAge: 30, serveStale: 1 hour }
timeouts: { store: 5, request: -1s }
shutdown: [5s, 25s]
limits: { requestsPerSecond: 0 }
log: { level: warning }
clients: { match: {} }
ccg: true
`,
    problems: [
      '5:18: listen.hosts: expected a list of 1 or more, 16 at most: each text',
      '5:35: listen.port: expected an integer from 0 to 65535',
      '6:16: admin.host: expected text: put it in quotes',
      '6:25: admin.port: expected an integer from 0 to 65535',
      '6:45: admin.statusPage: expected loopback or true or false, did you mean loopback?',
      `7:18: cache.maxAge: expected ${DURATION}`,
      `7:34: cache.serveStale: expected ${DURATION}`,
      `8:20: timeouts.store: expected ${DURATION}`,
      `8:32: timeouts.request: expected ${DURATION}`,
      '9:11: shutdown: expected a mapping of drainDelay, grace',
      '10:30: limits.requestsPerSecond: expected an integer from 1 to 1000000',
      '11:15: log.level: expected error, warn, info, debug or trace, did you mean warn?',
      '12:10: clients: expected a list: each a mapping of match, allow, accounts',
      '13:6: ccg: expected a mapping of directory, namespace, client',
    ],
  },
  {
    name: 'durations out of bounds',
    text: `${SOUND}cache: { maxAge: 0s, serveStale: 25d }\ntimeouts: { store: 0s, request: 0h0m }\nshutdown: { grace: 999999999d }\n`,
    problems: [
      '5:34: cache.serveStale: expected 24d at most',
      '6:20: timeouts.store: expected more than 0s',
      '6:33: timeouts.request: expected more than 0s',
      '7:20: shutdown.grace: expected 24d at most',
    ],
  },
  {
    name: 'addresses',
    text: `${SOUND}listen: { hosts: ['bad host', 999.1.1.1, '::1', localhost, '::1', '[::1]', ''], port: 65536 }\nadmin: { host: -x, port: -1 }\n`,
    problems: [
      '5:19: listen.hosts[0]: expected an IP address or a host name',
      '5:31: listen.hosts[1]: expected an IP address or a host name',
      '5:60: listen.hosts[4]: listed twice',
      '5:67: listen.hosts[5]: expected an IP address or a host name',
      '5:76: listen.hosts[6]: expected text',
      '5:87: listen.port: expected an integer from 0 to 65535',
      '6:16: admin.host: expected an IP address or a host name',
      '6:26: admin.port: expected an integer from 0 to 65535',
    ],
  },
  {
    name: 'no address',
    text: `${SOUND}listen: { hosts: [] }\n`,
    problems: ['5:18: listen.hosts: expected a list of 1 or more, 16 at most: each text'],
  },
  {
    name: 'both listeners on one port',
    text: `${SOUND}listen: { hosts: [localhost], port: 9464 }\n`,
    problems: ['1:1: admin.port: expected another address or port than listen'],
  },
  {
    name: 'both listeners on one port, by way of a wildcard',
    text: `${SOUND}listen: { hosts: ['::'] }\nadmin: { port: 8443 }\n`,
    problems: ['6:16: admin.port: expected another address or port than listen'],
  },
  {
    name: 'clients',
    text: `${SOUND}clients:
- match: {}
  allow: [credentials, all]
  accounts: []
- match: { cn: x, uri: '' }
  allow: []
  accounts: [SVC, 7]
- allow: [credential]
- text
`,
    problems: [
      '6:10: clients[0].match: expected a mapping with at least one of uri, dns, commonName, fingerprint256',
      `7:11: clients[0].allow[0]: expected ${PERMISSION}, did you mean credential?`,
      `7:24: clients[0].allow[1]: expected ${PERMISSION}`,
      '8:13: clients[0].accounts: expected a list of 1 or more: each an account name, in which * stands for any run of characters',
      '9:12: clients[1].match.cn: unknown option',
      '9:24: clients[1].match.uri: expected text',
      `10:10: clients[1].allow: expected a list of 1 or more: each ${PERMISSION}`,
      '11:14: clients[1].accounts[0]: expected an account name, in which * stands for any run of characters',
      '11:19: clients[1].accounts[1]: expected an account name, in which * stands for any run of characters',
      '12:3: clients[2].match: required: expected a mapping with at least one of uri, dns, commonName, fingerprint256',
      '12:3: clients[2].accounts: required: expected a list of 1 or more: each an account name, in which * stands for any run of characters',
      '13:3: clients[3]: expected a mapping of match, allow, accounts',
    ],
  },
  {
    name: 'a fingerprint that is too short',
    text: client('{ fingerprint256: "AB:CD" }'),
    problems: [`6:30: ${FINGERPRINT}`],
  },
  {
    name: 'a fingerprint with a wildcard',
    text: client(`{ fingerprint256: "${'ab'.repeat(31)}*" }`),
    problems: [`6:30: ${FINGERPRINT}`],
  },
  {
    name: 'a SHA-1 fingerprint',
    text: client(`{ fingerprint256: "${'ab'.repeat(20)}" }`),
    problems: [`6:30: ${FINGERPRINT}`],
  },
  { name: 'a namespace in upper case', text: ccg('Contoso'), problems: [`5:19: ${NAMESPACE}`] },
  { name: 'a namespace with a leading dash', text: ccg('-a'), problems: [`5:19: ${NAMESPACE}`] },
  { name: 'a namespace with a trailing dash', text: ccg('a-'), problems: [`5:19: ${NAMESPACE}`] },
  { name: 'a namespace of 64 characters', text: ccg('a'.repeat(64)), problems: [`5:19: ${NAMESPACE}`] },
  { name: 'a namespace that is a path', text: ccg('../x'), problems: [`5:19: ${NAMESPACE}`] },
  {
    name: 'sections of later versions',
    text: `${SOUND}login: {}\n`,
    problems: ['5:1: login: unknown option'],
  },
  {
    name: 'two documents',
    text: `${SOUND}---\na: 1\n`,
    problems: ['5:1: expected one document, found a second after ---'],
  },
  { name: 'a tab', text: `tls:\n\tkey: x\n`, problems: ['2:1: tabs cannot indent YAML'] },
  { name: 'a tag', text: `${SOUND}log: !!binary aGk=\n`, problems: ['5:6: this tag is not understood here'] },
  {
    name: 'a directive',
    text: `%YAML 1.1\n---\n${SOUND}`,
    problems: ['1:1: a %YAML directive is not understood here: YAML 1.2 is assumed'],
  },
  {
    name: 'an alias without an anchor',
    text: `${SOUND}log: *a\n`,
    problems: ['5:6: log: an alias without an anchor before it'],
  },
  {
    name: 'an alias of itself',
    text: `${SOUND}log: &a [*a]\n`,
    problems: ['5:9: log: nested too deeply, 32 levels at most', '5:9: log: expected a mapping of level'],
  },
  {
    name: 'a mapping as key',
    text: `${SOUND}{ a: 1 }: 2\n`,
    problems: ['5:1: expected a name as key'],
  },
  {
    name: 'the words of YAML 1.1 are text',
    text: `${SOUND}admin: { statusPage: yes }\n`,
    problems: ['5:22: admin.statusPage: expected loopback or true or false'],
  },
  {
    name: 'names that every object has',
    text: `${SOUND}__proto__: { log: 1 }\nlisten: { constructor: 1, __proto__: 2 }\n`,
    problems: [
      '5:1: __proto__: unknown option',
      '6:11: listen.constructor: unknown option',
      '6:27: listen.__proto__: unknown option',
    ],
  },
]

describe('a broken configuration is told with every problem and its place', () => {
  for (const { name, text, problems } of CASES) {
    test(name, async () => {
      expect(await problemsOf(text)).toEqual(problems)
    })
  }

  test('JSON has the same messages', async () => {
    const text = '{\n\t"tls": { "certificate": 1 },\n\t"log": { "level": "inf" }, "log": {}\n}\n'
    expect(await problemsOf(text, 'gmsa.json')).toMatchInlineSnapshot(`
      [
        "1:1: providers: required: expected a mapping with at least one entry",
        "1:1: accounts: required: expected a mapping with at least one entry",
        "2:2: tls.key: required: expected a path",
        "2:2: tls.clientCa: required: expected a path",
        "2:26: tls.certificate: expected a path: put it in quotes",
        "3:20: log.level: expected error, warn, info, debug or trace, did you mean info?",
        "3:29: log: given twice, first in line 3",
      ]
    `)
  })

  test('text that is not well-formed is told without quoting it', async () => {
    for (const text of [
      'password: "hunter2',
      'a: [hunter2',
      'a: b: hunter2',
      'a: @hunter2',
      'x\nhunter2: 1',
      '{"a": hunter2"}',
      'a: "\\hunter2"',
    ]) {
      const problems = await problemsOf(text)
      expect(problems.length, text).toBeGreaterThan(0)
      expect(problems.join(), text).not.toContain('hunter2')
    }
  })
})
