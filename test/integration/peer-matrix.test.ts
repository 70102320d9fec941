import { copyFile, mkdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type KeytabEntry, parseKeytab } from '../../src/kerberos/keytab.ts'
import type { Pki } from '../fakes/pki.ts'
import { type AgentFiles, type AgentForm, filesIn, oneShotForm, runningForm } from '../lab/agent-forms.ts'
import { makeDirectoryRig, makeYearPki, nextChange } from '../lab/directory-rig.ts'
import { type Domain, startDomain } from '../lab/domain.ts'
import { addGmsa, keyVersionOf } from '../lab/gmsa.ts'
import { type LiveTickets, makeLiveTickets, type TicketSet } from '../lab/live-tickets.ts'
import { type Happened, type Replacements, watchReplacements } from '../lab/replacements.ts'
import { shiftedClock } from '../lab/shifted-clock.ts'
import { needs } from '../lab/skip.ts'
import { logOn } from '../lab/tickets.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
/** The directory makes whole cycles of ten hours of two days. */
const INTERVAL = 40 * HOUR

const SERVICES = ['HTTP', 'nfs', 'postgres']

/** So many each of the peers was put to. */
const CHECKS_OF_THE_PEERS = 123

/** A moment of an account's life. */
interface Step {
  readonly when: string
  /** In ms after the account's first change; left out: now. */
  readonly at?: number
  /** What is checked are the files as they were at the step before: nobody has brought them up to date since. */
  readonly filesOfBefore?: boolean
}

const first = (after: number) => after
const second = (after: number) => INTERVAL + after
const third = (after: number) => 2 * INTERVAL + after

const STEPS: readonly Step[] = [
  { when: 'new account' },
  { when: '30 min before the 1st change', at: first(-30 * MINUTE) },
  { when: '4 min before the 1st change', at: first(-4 * MINUTE) },
  { when: '30 s after the 1st change', at: first(30 * SECOND), filesOfBefore: true },
  { when: '1 min after the 1st change', at: first(MINUTE) },
  { when: '10 min after the 1st change', at: first(10 * MINUTE) },
  { when: '3 h after the 1st change', at: first(3 * HOUR) },
  { when: '4 h after the 1st change', at: first(4 * HOUR) },
  { when: '9 h after the 1st change', at: first(9 * HOUR) },
  { when: '4 min before the 2nd change', at: second(-4 * MINUTE) },
  { when: '2 min before the 2nd change', at: second(-2 * MINUTE) },
  { when: '30 s after the 2nd change', at: second(30 * SECOND), filesOfBefore: true },
  { when: '1 min after the 2nd change', at: second(MINUTE) },
  { when: '30 min before the 3rd change', at: third(-30 * MINUTE) },
  { when: '1 min after the 3rd change, slept through', at: third(MINUTE) },
  { when: 'three intervals later', at: third(3 * INTERVAL + MINUTE) },
]

/** What a check is given to judge, of one form of the agent at one step. */
interface Scene {
  readonly domain: Domain
  readonly account: string
  readonly files: AgentFiles
  readonly tickets: LiveTickets
  /** Issued now. */
  readonly fresh: TicketSet
  /** Issued at earlier steps and not ended. */
  readonly earlier: readonly TicketSet[]
  /** What happened to the files since the step before, and whether their bytes are others. */
  readonly happened: Readonly<Record<keyof AgentFiles, Happened & { readonly changed: boolean }>>
}

/** Rows of the table: what was checked, and what is wrong with it; undefined where it holds. */
type Rows = readonly (readonly [check: string, problem: string | undefined])[]

const read = async (file: string): Promise<KeytabEntry[]> => parseKeytab(await readFile(file))
const expected = (wanted: unknown, found: unknown) => (wanted === found ? undefined : `${found} in place of ${wanted}`)

async function ticketRows({ tickets, files, fresh, earlier }: Scene): Promise<Rows> {
  const sets = [...earlier, fresh]
  const refusals = await tickets.refusals(files.acceptor, sets)
  return sets.flatMap((set, index) => {
    const name = set === fresh ? 'tickets of now' : `tickets of ${set.when}`
    const kinds = Object.entries(refusals[index] ?? { acceptor: 'not tried' })
    return kinds.map(([kind, problem]) => [`${name}, ${kind} acceptor`, problem] as const)
  })
}

/** What holds of files however old they are. */
const USE = [
  async ({ domain, account, files }: Scene): Promise<Rows> => [
    ['kinit -k', await logOn(domain, files.initiator, `${account}$`)],
  ],
  ticketRows,
]

/** What holds of files that are up to date. */
const STATE = [
  async ({ domain, account, files }: Scene): Promise<Rows> => {
    const kvno = await keyVersionOf(domain, account)
    const initiator = await read(files.initiator)
    const acceptor = await read(files.acceptor)
    const inForce = initiator.find(({ enctype }) => enctype === 18)
    const same = acceptor.filter(({ key, ...each }) => each.kvno === kvno && inForce?.key.equals(key))
    return [
      [
        'initiator: the key version of the directory',
        expected(`${kvno}`, [...new Set(initiator.map((each) => each.kvno))].join()),
      ],
      ['acceptor: the same key under that version, for each SPN', expected(SERVICES.length, same.length)],
    ]
  },
  async ({ files }: Scene): Promise<Rows> =>
    Promise.all(
      Object.entries(files).map(async ([kind, file]) => {
        const { mode } = await stat(file)
        return [`${kind}: mode`, expected('600', (mode & 0o7777).toString(8))] as const
      }),
    ),
  async ({ happened }: Scene): Promise<Rows> =>
    Object.entries(happened).map(([kind, { changed, replaced, touched }]) => {
      const wanted = `replaced ${Number(changed)}, written in place 0`
      return [
        `${kind}: replaced as a whole, once`,
        expected(wanted, `replaced ${replaced}, written in place ${touched}`),
      ]
    }),
]

/** One form of the agent under test, and what is known of it so far. */
interface Subject {
  readonly form: AgentForm
  readonly account: string
  readonly tickets: LiveTickets
  readonly replacements: Replacements
  /** Where copies of its files stand, as they were at the step before. */
  readonly copies: AgentFiles
  readonly bytes: Partial<Record<keyof AgentFiles, Buffer>>
}

const KINDS = ['acceptor', 'initiator'] as const

/** What happened to the files since the last call. */
async function changesOf({ form, replacements, bytes }: Subject): Promise<Scene['happened']> {
  const of = async (kind: keyof AgentFiles) => {
    const now = await readFile(form.files[kind])
    const changed = !(bytes[kind]?.equals(now) ?? false)
    bytes[kind] = now
    return { changed, ...(await replacements.since(form.files[kind])) }
  }
  return { acceptor: await of('acceptor'), initiator: await of('initiator') }
}

const NOTHING = { changed: false, replaced: 0, touched: 0 }

/** All checks of one form at one step. */
async function check(subject: Subject, domain: Domain, step: Step, ahead: number): Promise<Rows> {
  const { form, account, tickets, copies } = subject
  const { when, filesOfBefore = false } = step
  await form.moveTo(ahead)
  if (!filesOfBefore) await form.use(ahead)
  const happened = filesOfBefore ? { acceptor: NOTHING, initiator: NOTHING } : await changesOf(subject)
  const earlier = [...tickets.alive(ahead)]
  const fresh = await tickets.take(when, ahead)
  const files = filesOfBefore ? copies : form.files
  const scene = { domain, account, files, tickets, fresh, earlier, happened }
  const rows = await Promise.all([...USE, ...(filesOfBefore ? [] : STATE)].map((each) => each(scene)))
  if (!filesOfBefore) for (const kind of KINDS) await copyFile(form.files[kind], copies[kind])
  return rows.flat()
}

/** One line for each check: when, what, and for each form "holds" or what does not. */
class Table {
  readonly #rows = new Map<
    string,
    { readonly step: string; readonly check: string; readonly cells: Map<string, string> }
  >()

  add({ when, filesOfBefore }: Step, { form }: Subject, rows: Rows): void {
    const step = filesOfBefore ? `${when}, with the files of before` : when
    for (const [check, problem] of rows) {
      const key = `${step} ${check}`
      const row = this.#rows.get(key) ?? { step, check, cells: new Map() }
      row.cells.set(form.name, problem ?? 'holds')
      this.#rows.set(key, row)
    }
  }

  /** How many checks there were of each form. */
  count(form: string): number {
    return this.#rows
      .values()
      .filter(({ cells }) => cells.has(form))
      .toArray().length
  }

  failures(): string[] {
    return [...this.#rows.values()].flatMap(({ step, check, cells }) =>
      [...cells].flatMap(([form, found]) => (found === 'holds' ? [] : [`${form}, ${step}, ${check}: ${found}`])),
    )
  }

  text(forms: readonly string[]): string {
    const lines = [...this.#rows.values()].map(({ step, check, cells }) =>
      ['', step, check, ...forms.map((form) => cells.get(form) ?? 'not checked'), ''].join(' | ').trim(),
    )
    return [
      `| situation | check | ${forms.join(' | ')} |`,
      `|---|---|${forms.map(() => '---|').join('')}`,
      ...lines,
    ].join('\n')
  }
}

/** An account with three services, and an agent of one form that keeps its files; all of it ends with `stack`. */
async function prepare(
  domain: Domain,
  stack: AsyncDisposableStack,
  { umask, pki, make }: { umask: string; pki: Pki; make: typeof runningForm },
): Promise<Subject> {
  const account = make === runningForm ? 'run01' : 'once01'
  const services = SERVICES.map((service) => `${service}/${account}.${domain.dns}`)
  await addGmsa(domain, { name: account, intervalDays: 2, servicePrincipalNames: services })
  const folder = join(domain.state, account)
  await mkdir(join(folder, 'copies'), { recursive: true })
  const replacements = stack.use(watchReplacements(folder))
  const form = stack.use(await make({ domain, account, folder, umask, pki }))
  const tickets = makeLiveTickets(domain, services)
  return { form, account, tickets, replacements, copies: filesIn(join(folder, 'copies')), bytes: {} }
}

/** By how many ms the clock is ahead when the account's password changes first. */
async function firstChange(domain: Domain, account: string, pki: Pki): Promise<number> {
  const clock = shiftedClock()
  await using rig = await makeDirectoryRig(domain, clock, { accounts: [account], pki })
  return await nextChange(rig, clock, account)
}

/** What peers were measured by, a running agent and one run by hand side by side; with umask 022 and 000. */
describe.skipIf(!needs('samba', 'krb5', 'gssapi', 'ldap-utils'))('through password changes', () => {
  test.each(['000', '022'])('every check holds under umask %s', { timeout: 180_000 }, async (umask) => {
    const pki = await makeYearPki()
    await using stack = new AsyncDisposableStack()
    const domain = stack.use(await startDomain())
    const subjects: Subject[] = []
    for (const make of [runningForm, oneShotForm]) subjects.push(await prepare(domain, stack, { umask, pki, make }))
    const change = await firstChange(domain, 'run01', pki)
    const table = new Table()
    for (const step of STEPS) {
      const ahead = step.at === undefined ? 0 : change + step.at
      await domain.clock(`+${ahead / SECOND}`)
      const checked = subjects.map(async (subject) =>
        table.add(step, subject, await check(subject, domain, step, ahead)),
      )
      await Promise.all(checked)
    }
    const forms = subjects.map(({ form }) => form.name)
    console.log(table.text(forms))
    expect(table.failures()).toEqual([])
    for (const form of forms) expect(table.count(form)).toBeGreaterThanOrEqual(CHECKS_OF_THE_PEERS)
  })
})
