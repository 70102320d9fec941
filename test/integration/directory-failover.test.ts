import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { parseManagedPassword } from '../../src/gmsa/managed-password.ts'
import { failure, rejection } from '../contract/provider-contract.ts'
import { type Domain, startDomain } from '../lab/domain.ts'
import { needs } from '../lab/skip.ts'
import { type DirectoryRig, openRig, type RigOptions } from '../providers/active-directory/rig.ts'

/** For one read, in ms; and what a busy machine may add to it. */
const TIMEOUT = 3_000
const SLACK = 1_000

describe.skipIf(!needs('samba', 'krb5'))('the active-directory provider on two domain controllers', () => {
  let domain: Domain
  let first: string
  let second: string
  let pids: Readonly<Record<string, number>>
  const stopped = new Set<number>()
  const closing: DirectoryRig[] = []

  beforeAll(async () => {
    domain = await startDomain({ realm: 'random' })
    first = domain.ip
    second = await domain.secondDc()
    const pidOf = async (name: string) => Number(await readFile(join(domain.state, name, 'run/samba.pid'), 'utf8'))
    pids = { [first]: await pidOf('dc1'), [second]: await pidOf('dc2') }
  })
  afterEach(async () => {
    for (const each of closing.splice(0)) await each[Symbol.asyncDispose]()
    for (const pid of stopped) goOn(pid)
  })
  afterAll(async () => {
    for (const pid of stopped) goOn(pid)
    await domain?.[Symbol.asyncDispose]()
  })

  /** The controller takes connections and says nothing. */
  function hang(server: string): void {
    const pid = pids[server] ?? Number.NaN
    stopped.add(pid)
    process.kill(pid, 'SIGSTOP')
  }
  function goOn(pid = Number.NaN): void {
    stopped.delete(pid)
    process.kill(pid, 'SIGCONT')
  }

  async function open(rig: RigOptions = {}): Promise<DirectoryRig> {
    const opened = await openRig(domain, {
      ...rig,
      options: { servers: [first, second], timeout: `${TIMEOUT}ms`, ...rig.options },
    })
    closing.push(opened)
    return opened
  }

  /** What `work` comes to, and that it came within the time for one read. */
  async function inTime<T>(work: Promise<T>): Promise<T> {
    const began = performance.now()
    const result = await work
    expect(performance.now() - began).toBeLessThan(TIMEOUT + SLACK)
    return result
  }

  test('both give the same password, each under its own name', async () => {
    const answers = await Promise.all(
      [first, second].map(async (server) => (await open({ options: { servers: [server] } })).read('web01')),
    )
    expect(answers.map(({ server }) => server)).toEqual([first, second])
    const [one, two] = answers.map(({ blob }) => parseManagedPassword(blob.reveal()).current)
    expect(one && two?.equals(one)).toBe(true)
  })

  test('L1: the first one listed is asked, and a port that refuses costs no time', async () => {
    const rig = await open()
    expect((await rig.read('web01')).server).toBe(first)
    const refusing = await open({ options: { servers: ['127.0.0.1', second] } })
    const began = performance.now()
    expect((await refusing.read('web01')).server).toBe(second)
    expect(performance.now() - began).toBeLessThan(1_000)
    expect(refusing.outcomes).toEqual(['127.0.0.1 failed', `${second} ok`])
  })

  test('L1: when the one in use falls silent, every read under way and every later one is answered by the other', async () => {
    const rig = await open()
    await rig.read('web01')
    hang(first)
    const names = Array.from({ length: 20 }, (_, index) => (index % 2 ? 'web01' : 'sql01'))
    const during = await inTime(Promise.all(names.map((name) => rig.read(name))))
    expect(new Set(during.map(({ server }) => server))).toEqual(new Set([second]))
    const began = performance.now()
    expect((await rig.read('web01')).server).toBe(second)
    expect(performance.now() - began).toBeLessThan(500)
    const warnings = rig.lines.filter(({ level }) => level === 'warn')
    expect(warnings[0]).toMatchObject({ provider: 'ad', server: first, reason: 'hang' })

    // It is back, and the other one goes: nobody notices.
    goOn(pids[first])
    hang(second)
    expect((await inTime(rig.read('sql01'))).server).toBe(first)
    expect(rig.lines).toContainEqual(expect.objectContaining({ level: 'info', server: first }))
  })

  test('a first one that is silent from the start is passed over in time, and then left alone', async () => {
    hang(first)
    const rig = await open()
    expect((await inTime(rig.read('web01'))).server).toBe(second)
    for (let time = 0; time < 5; time++) await rig.read('web01')
    expect(rig.outcomes).toEqual([`${first} failed`, ...Array.from({ length: 6 }, () => `${second} ok`)])
  })

  test('when both are silent there is an error in time that names both, and an answer when one is back', async () => {
    const rig = await open({ options: { transport: 'starttls' } })
    await rig.read('web01')
    hang(first)
    hang(second)
    const error = await inTime(failure(rig.read('web01'), 'STORE_UNAVAILABLE'))
    expect(error.reason).toBe('hang')
    expect(error.message).toContain(first)
    expect(error.message).toContain(second)
    await inTime(failure(rig.provider.probe(AbortSignal.timeout(10_000)), 'STORE_UNAVAILABLE'))
    goOn(pids[second])
    expect((await inTime(rig.read('web01'))).server).toBe(second)
  })

  test('a caller with less time than ours gets its end at once, and the next one the other controller', async () => {
    const rig = await open({ options: { timeout: '30s' } })
    await rig.read('web01')
    hang(first)
    const began = performance.now()
    await rejection(rig.read('web01', AbortSignal.timeout(700)))
    expect(performance.now() - began).toBeLessThan(1_500)
    expect((await inTime(rig.read('web01'))).server).toBe(second)
  })

  test('a wrong password is tried at one controller only', async () => {
    const rig = await open({ login: () => ({ ...domain.outsider, password: 'not it' }) })
    expect((await failure(rig.read('web01'), 'STORE_DENIED')).reason).toBe('bad-password')
    expect(rig.outcomes).toEqual([`${first} failed`])
  })

  test('an absent account and a refused one are answers, not reasons to ask elsewhere', async () => {
    const rig = await open()
    await failure(rig.read('nobody'), 'ACCOUNT_NOT_FOUND')
    await failure(rig.read('secret01'), 'STORE_DENIED')
    expect(rig.outcomes).toEqual([`${first} ok`, `${first} failed`])
  })

  // The last test: the controller does not come back.
  test('when one ends, connections to it and all, the other one answers', async () => {
    const rig = await open()
    expect((await rig.read('web01')).server).toBe(first)
    process.kill(pids[first] ?? Number.NaN, 'SIGTERM')
    await expect.poll(async () => (await inTime(rig.read('web01'))).server, { timeout: 10_000 }).toBe(second)
    expect((await rig.read('sql01')).server).toBe(second)
    const fresh = await open()
    expect((await inTime(fresh.read('web01'))).server).toBe(second)
    expect(fresh.lines).toContainEqual(expect.objectContaining({ server: first, reason: 'refused' }))
  })
})
