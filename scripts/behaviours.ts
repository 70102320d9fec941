/**
 * What an agent on Linux owes its users, each line with an ID that titles of tests begin with; and which tests those
 * are. docs/behaviours.md is made of it.
 */
import { globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const root = dirname(import.meta.dirname)

/** ID and what holds. */
export const BEHAVIOURS: readonly (readonly [id: string, holds: string])[] = [
  ['K1', 'an account without SPNs has a keytab with its own principal and no other'],
  ['K2', 'with SPNs the acceptor keytab holds these, or exactly the principals asked for'],
  ['K3', 'the key in force and the one before, for each principal and enctype, under their own kvno, never under 0'],
  ['K4', 'an acceptor has the next key within a minute of the window before a change, and both are taken'],
  ['K5', 'an initiator never holds a key that is not in force'],
  ['K6', 'the kvno of each password is the published one, through the window and the change'],
  ['K7', 'keys and salts are those of published vectors; a salt may be given'],
  ['K8', "a keytab has the bytes of MIT's own tools, which read it"],
  ['K9', 'several accounts share a file, and what others put there stays'],
  ['K10', 'keytabs with holes, padding and an end marker are read; what is none is left alone'],
  ['K11', 'a reader sees the old file or the new one, and so does who comes after a crash'],
  ['K12', 'mode, owner and group are right before the name appears; 0600 unless told'],
  ['K13', 'links and the folders of Kubernetes work; a mount of the single file is found and said'],
  ['K14', 'an empty, refused or poorer answer takes nothing from a keytab'],
  ['K15', 'without the network files stay as they are, the agent is not ready, and check fails'],
  [
    'R1',
    'questions are asked as the window opens and after the change, at least each checkInterval, and not at each tick',
  ],
  ['R2', 'after sleep or a step of the clock all is caught up at the first look'],
  ['R3', 'a failure is tried again with growing pauses, and holds up no other account'],
  ['R4', 'an older kvno is not believed until it is said again'],
  ['R5', 'a signal, or a call, brings all up to date at once'],
  ['H1', 'a hook runs once for each changed file, and is told of account, kind, path and kvno, and no secret'],
  ['H2', 'a hook that fails, hangs or is missing is run again; the file stays, and so does the agent'],
  ['H3', 'where the bytes are equal nothing is written and no hook runs'],
  ['H4', 'a signal goes to the process whose number stands in a file'],
  ['L1', 'domain controllers by priority and site, or as listed; one that refuses or is silent is passed over in time'],
  ['L2', 'LDAPS or StartTLS before any log-on, with verified names; nothing over a plain connection'],
  ['L3', 'accounts are found in any OU, or below a base that is given'],
  ['L4', 'who may not read a password is told so, with the attribute that says who may'],
  [
    'P1',
    'credential specs with a byte order mark, either form of PluginInput, a `$` and several names are read, or the fault has a place',
  ],
  ['P2', 'secrets made for other tools are taken as they are, from every store'],
  ['P3', 'of `old:new` the new user counts; the log says which names a record has'],
  ['P4', 'where a store has the password before the current one, it is tried once when that is refused, and counted'],
  ['T1', 'a credential cache holds a ticket-granting ticket of the gMSA with more than half its life left'],
  ['T2', 'it has the mode and owner asked for, and its owner can read it'],
  ['T3', 'tickets that can be renewed and that cannot are both kept fresh, without a gap'],
  ['T4', 'on request it stands in the lease where tasks of ECS look for it'],
  ['T5', 'a lease is removed by a strict ID, and nothing else with it'],
  ['S1', 'no secret in arguments, environment, logs or errors'],
  ['S2', 'no program is started but hooks'],
  ['S3', 'works without root, capabilities and a writable root file system'],
  ['S4', 'a new client certificate counts from the next connection on'],
  ['O1', 'health tells of each file whether it can be relied on, and why not'],
  ['O2', 'metrics of success, rotation, kvno, entries and hooks, without secrets'],
  ['O3', 'check, --once, status and keytab list, with exit codes'],
  ['O4', 'a wrong section disables itself alone, and is named with line and column'],
  ['M1', 'each option of gmsad is carried over or named'],
  ['M2', 'each name that credentials-fetcher knows is carried over or named'],
]

/** Titles of these begin with IDs of another list: what the plug-in of Windows nodes owes and is owed. */
const OTHER_LISTS: readonly string[] = ['test/server/host-files.test.ts', 'test/server/provider.test.ts']
/** A title after the bracket of `test(`, `describe(` or `test.each(…)(`. */
const TITLE = /\(\s*['"`]((?:[A-Z][0-9]{1,2}, )*[A-Z][0-9]{1,2}): /g

/** The files of tests whose titles begin with an ID, by ID; paths below the checkout, in order. */
export function testsById(): ReadonlyMap<string, readonly string[]> {
  const files = globSync('test/**/*.ts', { cwd: root })
    .map((path) => path.replaceAll('\\', '/'))
    .filter((path) => !OTHER_LISTS.includes(path))
  const found = new Map<string, string[]>()
  for (const path of files.toSorted()) {
    const titles = readFileSync(join(root, path), 'utf8').matchAll(TITLE)
    const ids = new Set([...titles].flatMap(([, named = '']) => named.split(', ')))
    for (const id of ids) found.set(id, [...(found.get(id) ?? []), path])
  }
  return found
}

/** Rows of the table in docs/behaviours.md: ID, what holds, links to the tests. */
export function behaviourRows(): string[][] {
  const tests = testsById()
  return BEHAVIOURS.map(([id, holds]) => {
    const links = (tests.get(id) ?? []).map((path) => `[${path.replace(/^test\/|(?:\.test)?\.ts$/g, '')}](../${path})`)
    return [id, holds, links.join(', ')]
  })
}
