import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runCli } from '../fakes/cli.ts'
import { needs } from '../lab/skip.ts'
import { issueCertificates } from './certificates.ts'
import { at, listAt, only, podsOf, render, template } from './helm.ts'
import type { KubernetesObject } from './kubernetes.ts'

const HELM = needs('helm')
const OPENSSL = HELM && needs('openssl')
const ALLOW = ['--set', 'certificates.allowUnconstrainedCa=true']
const UNCONSTRAINED = ['--set', 'certificates.certManager.nameConstraints=false']

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'gmsa-trust-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const initOf = (objects: readonly KubernetesObject[], name: string) =>
  listAt(podsOf(objects)[0]?.spec, 'initContainers').find((container) => at(container, 'name') === name)
const distrustOf = (objects: readonly KubernetesObject[]) =>
  at(only(objects, 'DaemonSet', '-cleanup'), 'spec', 'template', 'spec', 'initContainers', 0)
/** What is handed to the script. */
const scriptArguments = (container: unknown) => {
  const command = listAt(container, 'command')
  return command.slice(command.indexOf('-File') + 2)
}

describe.skipIf(!HELM)('the trust of Windows nodes in the CA of a release', () => {
  test('is judged by the program before the script gives it, and taken away after', () => {
    const objects = render()
    const names = listAt(podsOf(objects)[0]?.spec, 'initContainers').map((container) => at(container, 'name'))
    expect(names).toEqual(['judge-ca', 'trust-ca'])
    const file = `${at(initOf(objects, 'judge-ca'), 'volumeMounts', 0, 'mountPath')}/ca.crt`
    expect(at(initOf(objects, 'judge-ca'), 'args')).toEqual(['check', '--node-ca', file])
    expect(at(initOf(objects, 'judge-ca'), 'command')).toBeUndefined()
    const namespace = ['-Namespace', 'contoso-ad-contoso-ccg']
    expect(scriptArguments(initOf(objects, 'trust-ca'))).toEqual([...namespace, '-Path', file])
    expect(scriptArguments(distrustOf(objects))).toEqual([...namespace, '-Remove'])
    expect(at(podsOf(render({ values: 'linux' }))[0]?.spec, 'initContainers')).toBeUndefined()
  })

  test('is given to a CA without name constraints only where that is said', () => {
    const brought = render({ values: 'rancher-own-certificates', args: ALLOW })
    expect(initOf(brought, 'judge-ca')).toBeUndefined()
    expect(scriptArguments(initOf(brought, 'trust-ca'))).toContain('-AllowUnconstrained')
    // Else the clean-up would leave it trusted.
    expect(scriptArguments(distrustOf(brought))).toContain('-AllowUnconstrained')
    const strict = render({ values: 'rancher-own-certificates' })
    expect(initOf(strict, 'judge-ca')).toBeDefined()
    expect(scriptArguments(initOf(strict, 'trust-ca'))).not.toContain('-AllowUnconstrained')
  })

  test('does not go to a CA of the chart without constraints, unless that is said; clients elsewhere need none', () => {
    expect(template({ args: UNCONSTRAINED }).said).toMatch(/nameConstraints=false: .*allowUnconstrainedCa=true/)
    expect(template({ args: [...UNCONSTRAINED, ...ALLOW] }).code).toBe(0)
    expect(template({ args: [...UNCONSTRAINED, '--set', 'mode=linux'] }).code).toBe(0)
  })

  test.skipIf(!OPENSSL).each([
    ['as the chart has it made', [], 0, /^ok +node CA .*: can vouch for localhost\n$/],
    ['without its constraints', UNCONSTRAINED, 1, /^failed +node CA .*it could vouch for every server/],
  ])('is judged by what its certificate says: %s', async (_, more, expected, said) => {
    const objects = render({ args: [...more, ...ALLOW] })
    const contents = issueCertificates(objects, folder)
    const { secretName } = Object(only(objects, 'Certificate', '-ca')['spec'])
    const file = join(folder, 'node-ca.crt')
    writeFileSync(file, contents[secretName]?.['ca.crt'] ?? '')
    const container = initOf(render(), 'judge-ca')
    const args = listAt(container, 'args').map((arg) => (String(arg).endsWith('/ca.crt') ? file : String(arg)))
    const { code, stdout } = await runCli(args)
    expect(stdout).toMatch(said)
    expect(code).toBe(expected)
  })
})
