import { spawn } from 'node:child_process'

/**
 * Tells systemd that the agent is ready, where it asked to be told (sd_notify(3)). By its own program: Node has no
 * datagram sockets of the Unix kind. Resolves with whether that worked; never rejects.
 */
export async function notifyReady(env: NodeJS.ProcessEnv): Promise<boolean> {
  const { NOTIFY_SOCKET, PATH = '/usr/bin:/bin' } = env
  if (!NOTIFY_SOCKET) return false
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const child = spawn('systemd-notify', ['--ready'], { env: { NOTIFY_SOCKET, PATH }, stdio: 'ignore', timeout: 10_000 })
  child.on('error', () => resolve(false))
  child.on('close', (code) => resolve(code === 0))
  return promise
}
