import { describe, expect, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { agentConfigOf, readAgentConfig } from '../../src/cli/agent-config.ts'
import { environmentOf, execForm, parseDockerfile } from './dockerfile.ts'
import { root, text } from './source.ts'

const image = parseDockerfile(text('Dockerfile')).at(-1) ?? { base: '', alias: undefined, instructions: [] }

describe.each([
  ['deploy/gmsa-account-provider.service', [], 'run --config /etc/gmsa-account-provider/config.yaml', ''],
  [
    'deploy/gmsa-agent.service',
    ['--jitless', '--expose-gc'],
    'agent --config /etc/gmsa-account-provider/agent.yaml',
    'CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE CAP_KILL',
  ],
])('the systemd unit %s', (path, more, command, capabilities) => {
  const unit = text(path)
  const settings = (name: string) => [...unit.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map(([, value]) => value)

  test('starts Node with the flags and the environment of the image', () => {
    const [, ...flags] = execForm(image, 'ENTRYPOINT').filter((word) => !word.endsWith('.js'))
    expect(settings('ExecStart')).toEqual([
      `/usr/bin/node ${[...flags, ...more].join(' ')} /opt/gmsa-account-provider/dist/cli/main.js ${command}`,
    ])
    const { GMSA_PROVIDER_COMMIT: _commit, ...shared } = environmentOf(image)
    const environment = Object.entries(shared).map(([name, value]) => `${name}=${value}`)
    expect(settings('Environment')).toEqual([environment.join(' ')])
  })

  test('does not start again what a wrong configuration has ended', () => {
    expect(settings('RestartPreventExitStatus')).toEqual(['78'])
  })

  test.each([
    ['NoNewPrivileges', 'true'],
    ['ProtectSystem', 'strict'],
    ['CapabilityBoundingSet', capabilities],
    ['AmbientCapabilities', ''],
    ['LimitCORE', '0'],
    ['UMask', '0077'],
  ])('holds the service: %s=%s', (name, value) => {
    expect(settings(name)).toEqual([value])
  })
})

test('the agent runs without memory that is both written and executed, which V8 can do without its compilers', () => {
  const unit = text('deploy/gmsa-agent.service')
  expect(unit).toMatch(/^ExecStart=.* --jitless /m)
  expect(unit).toContain('\nMemoryDenyWriteExecute=true\n')
})

test('the unit of the agent is told by a process of its own that it is ready, however long that takes', () => {
  const unit = text('deploy/gmsa-agent.service')
  for (const line of ['Type=notify', 'NotifyAccess=all', 'TimeoutStartSec=infinity'])
    expect(unit).toContain(`\n${line}\n`)
})

describe("the agent's examples", () => {
  test('deploy/agent.yaml is a configuration without a problem', async () => {
    const loaded = await readAgentConfig('deploy/agent.yaml', root)
    expect(loaded).toMatchObject({ ok: true })
    if (!loaded.ok) return
    expect(loaded.config.disabled.size).toBe(0)
    expect(loaded.config.outputs.map(({ name, kind }) => `${name} ${kind}`)).toEqual([
      'web01 acceptor',
      'web01 initiator',
      'reports ccache',
    ])
  })

  test('the pod has a good configuration, one image, and no right that it does not need', () => {
    const [map, deployment] = parseAllDocuments(text('deploy/kubernetes-sidecar.yaml')).map((each) =>
      each.toJS({ maxAliasCount: 10 }),
    )
    const [config] = parseAllDocuments(map.data['agent.yaml']).map((each) => each.toJS())
    expect(agentConfigOf(config, '/')).toMatchObject({
      ok: true,
      config: { outputs: [{ kind: 'acceptor', mode: 0o640 }] },
    })
    const { initContainers, volumes } = deployment.spec.template.spec
    const sidecar = initContainers.at(-1)
    expect(sidecar).toMatchObject({ restartPolicy: 'Always' })
    expect(sidecar.env).toEqual([{ name: 'NODE_OPTIONS', value: '--jitless --expose-gc' }])
    const { version, name }: { version: string; name: string } = JSON.parse(text('package.json'))
    const writable = new Set<string>()
    for (const container of initContainers) {
      expect(container.image).toBe(`${name}:${version}`)
      expect(container.args.slice(0, 3)).toEqual(['agent', '--config', '/config/agent.yaml'])
      expect(container.securityContext).toMatchObject({
        readOnlyRootFilesystem: true,
        allowPrivilegeEscalation: false,
        capabilities: { drop: ['ALL'] },
      })
      for (const mount of container.volumeMounts) {
        expect(mount).not.toHaveProperty('subPath')
        if (!mount.readOnly) writable.add(mount.name)
      }
    }
    expect([...writable]).toEqual(['gmsa'])
    expect(volumes.find(({ name: each }: { name: string }) => each === 'gmsa').emptyDir.medium).toBe('Memory')
  })
})
