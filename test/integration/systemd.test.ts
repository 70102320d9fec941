import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, describe, expect, test } from 'vitest'
import { makeAgentRig } from '../fakes/agent-rig.ts'
import { CLI } from '../fakes/cli.ts'
import { files, text } from '../house/source.ts'
import { needs } from '../lab/skip.ts'

describe.skipIf(!needs('systemd'))('systemd', () => {
  const folder = mkdtempSync(join(tmpdir(), 'gmsa-systemd-'))
  afterAll(() => rmSync(folder, { recursive: true }))

  /** What systemd finds wrong with a unit; its program is there on every machine that has it. */
  function verify(name: string, unit: string): string {
    const file = join(folder, name)
    writeFileSync(file, unit.replace('ExecStart=/usr/bin/node ', `ExecStart=${process.execPath} `))
    const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', file], { encoding: 'utf8' })
    return `${stdout}${stderr}${status === 0 ? '' : `ended with code ${status}`}`
  }

  test.each(files('deploy/*.service'))('finds nothing wrong with %s', (path) => {
    expect(verify(basename(path), text(path))).toBe('')
  })

  test('would say what it does not know', () => {
    const unit = text('deploy/gmsa-agent.service').replace('ProtectClock=', 'ProtectClocks=')
    expect(verify('gmsa-agent.service', unit)).toMatch(/Unknown key .*'ProtectClocks'/)
  })

  test('is told by its own program that the agent is ready, at the place that it names', async () => {
    await using at = await makeAgentRig()
    const place = join(folder, 'notify')
    const script = join(import.meta.dirname, '../lab/notify-socket.py')
    const receiver = spawn('/usr/bin/python3', [script, place], { stdio: ['ignore', 'pipe', 'inherit'] })
    const lines = createInterface({ input: receiver.stdout })[Symbol.asyncIterator]()
    expect((await lines.next()).value).toBe('bound')
    const { certificate, key } = at.rig.files.client
    const config = join(folder, 'agent.yaml')
    const tls = { certificate, key, ca: at.rig.files.ca }
    const accounts = { web01: { acceptorKeytab: { file: at.path('keytab') } } }
    const servers = [`https://localhost:${at.rig.service.port}`]
    writeFileSync(config, JSON.stringify({ servers, tls, status: { port: 0 }, accounts }))
    const agent = spawn(process.execPath, [...CLI, 'agent', '--config', config], {
      env: { PATH: process.env['PATH'] ?? '', NOTIFY_SOCKET: place },
      stdio: 'ignore',
    })
    try {
      expect((await lines.next()).value).toBe('READY=1')
      expect(await at.keytab('keytab')).toHaveLength(4)
    } finally {
      agent.kill('SIGKILL')
      receiver.kill('SIGKILL')
    }
  })
})
