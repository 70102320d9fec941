import { watch } from 'node:fs'
import { basename } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type AgentLab, startAgentLab } from '../lab/agent-lab.ts'
import { type Httpd, startHttpd } from '../lab/httpd.ts'
import { type Postgresql, startPostgresql } from '../lab/postgresql.ts'
import { needs } from '../lab/skip.ts'
import { type Sshd, startSshd } from '../lab/sshd.ts'

const MINUTE = 60_000

/** As Windows writes them. sshd looks for it in lower case. */
const HOST_SPN = `dn: CN=web01,CN=Managed Service Accounts,@BASE@
changetype: modify
add: servicePrincipalName
servicePrincipalName: HOST/web01.ad.test
`

describe.skipIf(!needs('samba', 'krb5'))('servers with a keytab that an agent keeps', () => {
  let lab: AgentLab
  beforeAll(async () => {
    lab = await startAgentLab({ ldif: HOST_SPN })
  })
  afterAll(async () => await lab[Symbol.asyncDispose]())

  describe.skipIf(!needs('httpd'))('httpd with mod_auth_gssapi', () => {
    let server: Httpd
    let keytab: string
    beforeAll(async () => {
      keytab = lab.path('httpd.keytab')
    })
    afterAll(async () => await server?.[Symbol.asyncDispose]())

    /** Status, and whom the server takes us for, with the tickets of this cache. */
    async function fetchPage(ccache: string, host = `web01.${lab.domain.dns}`): Promise<string> {
      const args = ['-s', '-o', '/dev/null', '-m', '20', '-w', '%{http_code} %header{x-user}', '--negotiate', '-u', ':']
      const to = [
        '--noproxy',
        '*',
        '--resolve',
        `${host}:${server.port}:127.0.0.1`,
        `http://${host}:${server.port}/page`,
      ]
      const { stdout } = await lab.domain.run('curl', [...args, ...to], undefined, { KRB5CCNAME: ccache })
      return stdout.trim()
    }

    test('goes on taking tickets through a change of the password, without a restart or a reload', async () => {
      const agent = await lab.keep({ kind: 'acceptor', file: keytab, group: 'www-data', mode: 0o640 })
      server = await startHttpd(lab.path('httpd'), keytab, await lab.environment())
      const { pid } = server
      const generation = await server.generation()
      expect(await lab.throughChange(agent, fetchPage)).toBe(`200 svc-ccg@${lab.domain.realm}`)
      expect(server.pid).toBe(pid)
      expect(await server.generation()).toBe(generation)
      await agent.stop()
    }, 240_000)

    test('refuses who has no ticket, and a ticket that is for another account', async () => {
      expect(await fetchPage(`FILE:${lab.path('none')}`)).toBe('401')
      const ccache = await lab.logOn()
      expect(await fetchPage(ccache, `secret01.${lab.domain.dns}`)).toBe('401')
      expect(await fetchPage(ccache)).toBe(`200 svc-ccg@${lab.domain.realm}`)
    })

    test('H4: a hook with its pid file has it read its files again, once for each change and never without', async () => {
      const { pid, pidFile } = server
      const before = await server.generation()
      const reloads = async () => (await server.generation()) - before
      const file = lab.path('signalled.keytab')
      let changes = 0
      const watcher = watch(lab.folder, (event, name) => {
        if (event === 'rename' && name === basename(file)) changes += 1
      })
      const agent = await lab.keep({ kind: 'acceptor', file, onChange: { signal: 'SIGUSR1', pidFile } })
      for (const roll of [1, 2]) {
        const change = await lab.nextChange()
        for (const minute of [-20, -4, 1, 10]) {
          await lab.moveTo(change + minute * MINUTE)
          agent.refresh()
          await pause(400)
          const message = `minute ${minute} of change ${roll}`
          await expect.poll(async () => (await reloads()) - changes, { timeout: 10_000, message }).toBe(0)
        }
      }
      // As it was first, and with each of two new keys; old ones may leave beside them.
      expect(changes).toBeGreaterThanOrEqual(3)
      expect(changes).toBeLessThan(8)
      expect(server.pid).toBe(pid)
      watcher.close()
      await agent.stop()
    }, 120_000)
  })

  describe.skipIf(!needs('sshd'))('sshd', () => {
    let server: Sshd
    afterAll(async () => await server?.[Symbol.asyncDispose]())

    test('goes on letting in by its own principal alone through a change, without a restart', async () => {
      const keytab = lab.path('sshd.keytab')
      const host = `web01.${lab.domain.dns}`
      const agent = await lab.keep({ kind: 'acceptor', file: keytab, principals: [`host/${host}`] })
      server = await startSshd(lab, lab.path('sshd'), host, keytab)
      const { pid } = server
      expect(await lab.throughChange(agent, server.enter)).toBe('svc-ccg')
      expect(server.pid).toBe(pid)
      await agent.stop()
    }, 240_000)

    test('refuses who has no ticket, and another user than that of the ticket', async () => {
      const refusal = /Permission denied \(gssapi-with-mic\)/
      expect(await server.enter(`FILE:${lab.path('none')}`)).toMatch(refusal)
      const { ccache } = await lab.domain.kinit(lab.domain.outsider.username, lab.domain.outsider.password)
      expect(await server.enter(ccache)).toMatch(refusal)
    })
  })

  describe.skipIf(!needs('postgresql'))('PostgreSQL', () => {
    let server: Postgresql
    afterAll(async () => await server?.[Symbol.asyncDispose]())

    test('goes on taking log-ons through a change of the password, without a restart', async () => {
      const keytab = lab.path('postgresql.keytab')
      const agent = await lab.keep({ kind: 'acceptor', file: keytab, owner: 'postgres' })
      server = await startPostgresql(lab, lab.path('postgresql'), keytab)
      expect(await lab.throughChange(agent, server.logOn)).toMatch(/^svc-ccg\|/)
      await agent.stop()
    }, 240_000)
  })
})
