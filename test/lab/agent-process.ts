/**
 * An agent as a process of its own, so that it can be killed, with a clock that its parent moves. Started with the
 * agent's configuration as JSON and the clock's shift in ms; each message from the parent is another shift. Once its files
 * are right it sends the port at which it tells of itself.
 */
import { randomBytes } from 'node:crypto'
import { startAgent } from '../../src/agent/agent.ts'
import { silentLog } from '../../src/base/log.ts'
import { shiftedClock } from './shifted-clock.ts'

const [config = '', ahead = '0'] = process.argv.slice(2)
const clock = shiftedClock(Number(ahead))
process.on('message', (shift) => clock.shiftTo(Number(shift)))
process.on('disconnect', () => process.exit())
const agent = await startAgent({
  config: { ...JSON.parse(config), disabled: new Map() },
  clock,
  random: Math.random,
  randomBytes,
  log: silentLog,
  version: '0.0.0-test',
  commit: 'none',
})
await agent.ready
process.send?.(agent.listening?.port ?? 0)
