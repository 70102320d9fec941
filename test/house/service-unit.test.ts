import { describe, expect, test } from 'vitest'
import { environmentOf, execForm, parseDockerfile } from './dockerfile.ts'
import { text } from './source.ts'

const unit = text('deploy/gmsa-account-provider.service')
const settings = (name: string) => [...unit.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map(([, value]) => value)

describe('the systemd unit', () => {
  const image = parseDockerfile(text('Dockerfile')).at(-1) ?? { base: '', alias: undefined, instructions: [] }

  test('starts Node with the flags and the environment of the image', () => {
    const [, ...flags] = execForm(image, 'ENTRYPOINT').filter((word) => !word.endsWith('.js'))
    expect(settings('ExecStart')[0]).toContain(
      `/usr/bin/node ${flags.join(' ')} /opt/gmsa-account-provider/dist/cli/main.js run`,
    )
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
    ['CapabilityBoundingSet', ''],
    ['LimitCORE', '0'],
    ['UMask', '0077'],
  ])('holds the service: %s=%s', (name, value) => {
    expect(settings(name)).toEqual([value])
  })
})
