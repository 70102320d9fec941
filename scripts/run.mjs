/**
 * Runs one command under Node 24 with this project's packages, fetching both when they are missing:
 *
 *   node scripts/run.mjs [--lean] COMMAND [ARGUMENTS…]
 *
 * Plain JavaScript on built-in modules alone, because it has to start under any Node that a machine happens to have.
 * Node 24 comes from the npm registry, held by a hash below, into `.toolchain`; the packages come by `npm ci` run by
 * that Node 24, since npm under an older Node silently leaves out packages that ask for a newer one. `--lean` starts
 * Node as the service is meant to run: small young generation, one malloc arena.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import { constants, homedir } from 'node:os'
import { basename, delimiter, dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { isatty } from 'node:tty'
import { fileURLToPath } from 'node:url'

const version = '24.21.0'
const integrity = {
  'linux-x64': 'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
  'linux-arm64': 'sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==',
  'win-x64': 'sha512-0ddSuAi9KnmYzfjJwKfFUO5YfljMVfa9smiGRQXmp5QGhm8KXk7xbqkFNeaPXVaL6sfZ5oGfCD7q8wWY/TnypA==',
}

const windows = process.platform === 'win32'
const platform = `${windows ? 'win' : process.platform}-${process.arch}`
const root = dirname(dirname(fileURLToPath(import.meta.url)))
const toolchain = join(root, '.toolchain')
const fetchedName = `node-${platform}`
const fetchedNode = join(toolchain, 'node_modules', fetchedName, 'bin', windows ? 'node.exe' : 'node')
const fetchedStamp = join(toolchain, '.done')
const packagesStamp = join(root, 'node_modules', '.setup')
const lock = join(toolchain, 'lock')
const setupLog = join(toolchain, 'setup.log')

/** The process we wait for, npm first and the command later, and what we were told to do about it. */
const state = { child: undefined, locked: false, settingUp: true, last: new Map() }

const read = (file) => {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
const say = (line) => process.stderr.write(`gmsa-account-provider: ${line}\n`)

function stop(message) {
  say(`error: ${message}`)
  unlock()
  process.exit(1)
}

// --- signals -------------------------------------------------------------------------------------------------------

/** One Ctrl-C arrives from the terminal, from npm and from here: repeats within a second are the same one. */
function signalled(signal) {
  const now = performance.now()
  if (now - (state.last.get(signal) ?? -Infinity) < 1000) return
  state.last.set(signal, now)
  if (state.settingUp) {
    state.child?.kill('SIGTERM')
    unlock()
    process.exit(128 + constants.signals[signal])
  }
  // A terminal delivers its Ctrl-C to the whole group, the command included.
  if (signal === 'SIGINT' && isatty(0)) return
  state.child?.kill(signal)
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => signalled(signal))

// npm that dies of SIGTERM leaves its shell's children alive: notice the orphanage and end the command as npm was ended.
if (process.env.npm_lifecycle_event && !windows) {
  const parent = process.ppid
  const watch = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(watch)
    signalled('SIGTERM')
  }, 250)
  watch.unref()
}

// --- what is there -------------------------------------------------------------------------------------------------

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
/** Since 24.3 TypeScript runs without a warning. Newer majors are not what the tests were run under. */
const ownNodeFits = major === 24 && minor >= 3
const node = ownNodeFits ? process.execPath : fetchedNode
const nodeReady = () => ownNodeFits || (read(fetchedStamp) === `${version} ${platform}` && fs.existsSync(fetchedNode))

/** npm rewrites its hidden lock at every change, so a tree pruned or extended by hand is noticed. */
function packagesWanted() {
  const hidden = read(join(root, 'node_modules', '.package-lock.json'))
  return createHash('sha256')
    .update(read(join(root, 'package-lock.json')))
    .update(hidden)
    .update(platform)
    .digest('hex')
}
const packagesReady = () => read(packagesStamp) === packagesWanted()

const json = (file) => JSON.parse(read(file) || '{}')

/** Node put there by npm with the very hash below, but not by us. */
function nodeAdoptable() {
  const found = json(join(toolchain, 'node_modules', '.package-lock.json')).packages?.[`node_modules/${fetchedName}`]
  return found?.version === version && found.integrity === integrity[platform] && fs.existsSync(fetchedNode)
}

/** A tree that `npm install` has brought up to the lock file: nothing but the stamp is missing. */
function packagesAdoptable() {
  const wanted = json(join(root, 'package-lock.json')).packages ?? {}
  const found = json(join(root, 'node_modules', '.package-lock.json')).packages ?? {}
  const asked = new Set(Object.keys(wanted['']?.optionalDependencies ?? {}).map((name) => `node_modules/${name}`))
  // A tree that npm has finished has its hidden lock.
  if (Object.keys(found).length === 0) return false
  return Object.entries(wanted).every(([path, { version, optional }]) => {
    if (path === '' || found[path]?.version === version) return true
    return Boolean(optional) && !asked.has(path) && !found[path]
  })
}

// --- set-up --------------------------------------------------------------------------------------------------------

function npmCli() {
  const here = dirname(process.execPath)
  const onPath = (process.env.PATH ?? process.env.Path ?? '').split(delimiter).map((folder) => join(folder, 'npm'))
  const candidates = [
    process.env.npm_execpath ?? '',
    join(here, '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js'),
    join(here, 'node_modules', 'npm', 'bin', 'npm-cli.js'),
    ...onPath.map((file) => (fs.existsSync(file) ? fs.realpathSync(file) : '')),
  ]
  return candidates.find((file) => basename(file) === 'npm-cli.js' && fs.existsSync(file)) ?? stop('npm was not found')
}

const writable = (folder) => {
  try {
    fs.accessSync(folder, fs.constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** npm's own cache, or one of ours where that can't be written. Only tested: creating a missing home would be rude. */
function cacheFlags() {
  try {
    const usual = windows ? join(process.env.LOCALAPPDATA ?? homedir(), 'npm-cache') : join(homedir(), '.npm')
    const cache = process.env.npm_config_cache ?? usual
    if (writable(fs.existsSync(cache) ? cache : dirname(cache))) return []
  } catch {
    // No home at all.
  }
  return ['--cache', join(toolchain, 'npm-cache')]
}

/** `npm ci` in `folder`, run by `runtime`; what it says goes to the log and is shown only when it fails. */
async function npmCi(runtime, folder) {
  const flags = [
    '--ignore-scripts',
    '--include=dev',
    '--include=optional',
    '--prefer-offline',
    '--no-audit',
    '--no-fund',
  ]
  const quiet = ['--no-progress', '--loglevel=error', '--fetch-retry-mintimeout=1000', '--fetch-retry-maxtimeout=4000']
  const log = fs.openSync(setupLog, 'a')
  const from = fs.fstatSync(log).size
  const args = [npmCli(), 'ci', ...flags, ...quiet, ...cacheFlags()]
  const { code } = await finished(
    spawn(runtime, args, { cwd: folder, env: environment(), stdio: ['ignore', log, log] }),
  )
  fs.closeSync(log)
  if (code === 0) return
  const tail = fs.readFileSync(setupLog).subarray(from).toString().trimEnd().split('\n').slice(-15)
  stop(`npm ci failed in ${folder}\n${tail.join('\n')}`)
}

const instead = `install Node 24 (24.3 or later) and start again`

async function setUpNode() {
  if (!(platform in integrity)) stop(`there is no Node 24 package for ${platform}: ${instead}`)
  if (!nodeAdoptable()) {
    say(`fetching Node ${version} into .toolchain`)
    const dependencies = { [fetchedName]: version }
    const manifest = { name: 'toolchain', private: true, dependencies }
    const entry = { version, integrity: integrity[platform] }
    const packages = { '': { name: 'toolchain', dependencies }, [`node_modules/${fetchedName}`]: entry }
    fs.writeFileSync(join(toolchain, 'package.json'), JSON.stringify(manifest))
    const whole = { name: 'toolchain', lockfileVersion: 3, requires: true, packages }
    fs.writeFileSync(join(toolchain, 'package-lock.json'), JSON.stringify(whole))
    await npmCi(process.execPath, toolchain)
  }
  const { code } = await finished(spawn(fetchedNode, ['-v'], { stdio: 'ignore' }))
  if (code !== 0) stop(`the Node ${version} package does not run on this machine: ${instead}`)
  fs.writeFileSync(fetchedStamp, `${version} ${platform}`)
}

async function setUpPackages() {
  if (!packagesAdoptable()) {
    say('installing packages')
    await npmCi(node, root)
  }
  fs.mkdirSync(dirname(packagesStamp), { recursive: true })
  fs.writeFileSync(packagesStamp, packagesWanted())
}

// --- the lock ------------------------------------------------------------------------------------------------------

function unlock() {
  if (state.locked) fs.rmSync(lock, { recursive: true, force: true })
  state.locked = false
}

function tryLock() {
  try {
    fs.mkdirSync(lock)
    return true
  } catch (error) {
    if (error.code === 'EEXIST') return false
    return stop(`cannot write to ${toolchain}: ${error.code}`)
  }
}

/** Two starts at once: one sets up, the others wait. A holder that has not shown a beat for 15 s is gone. */
async function locked(work) {
  fs.mkdirSync(toolchain, { recursive: true })
  let [seen, since] = [-1, performance.now()]
  while (!tryLock()) {
    if (seen === -1) say('waiting for another set-up in this folder')
    const beat = fs.statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? 0
    // The other side's clock may differ from ours (a folder shared by containers): only the change counts.
    if (beat !== seen) [seen, since] = [beat, performance.now()]
    if (performance.now() - since > 15_000) fs.rmSync(lock, { recursive: true, force: true })
    await pause(200)
  }
  state.locked = true
  const beat = setInterval(() => {
    const now = new Date()
    fs.utimes(lock, now, now, () => {})
  }, 2000)
  try {
    await work()
  } finally {
    clearInterval(beat)
    unlock()
  }
}

// --- the command ---------------------------------------------------------------------------------------------------

function finished(child) {
  state.child = child
  return new Promise((resolve) => {
    child.on('error', (error) => resolve({ code: error.code === 'ENOENT' ? 127 : 126, error }))
    child.on('close', (code, signal) => resolve({ code: signal ? 128 + constants.signals[signal] : code }))
  })
}

function environment() {
  const env = { ...process.env, NODE: node, npm_node_execpath: node }
  const key = Object.keys(env).find((name) => name.toUpperCase() === 'PATH') ?? 'PATH'
  env[key] = [dirname(node), join(root, 'node_modules', '.bin'), env[key]].filter(Boolean).join(delimiter)
  return env
}

function start([command, ...args], lean) {
  const env = environment()
  if (lean) env.MALLOC_ARENA_MAX ??= '1'
  if (command === 'npm') return spawn(node, [npmCli(), ...args], { stdio: 'inherit', env })
  const flags = lean ? ['--max-semi-space-size=2'] : []
  if (command === 'node') return spawn(node, [...flags, ...args], { stdio: 'inherit', env })
  return spawn(command, args, { stdio: 'inherit', env, shell: windows })
}

const given = process.argv.slice(2)
const lean = given[0] === '--lean'
const command = lean ? given.slice(1) : given
if (command.length === 0) stop('usage: node scripts/run.mjs [--lean] COMMAND [ARGUMENTS…]')
// npm itself is what mends a package tree that npm ci refuses, so it must not depend on one.
const needsPackages = command[0] !== 'npm'

if (!nodeReady() || (needsPackages && !packagesReady())) {
  await locked(async () => {
    if (!nodeReady()) await setUpNode()
    if (needsPackages && !packagesReady()) await setUpPackages()
  })
}
state.settingUp = false
const { code, error } = await finished(start(command, lean))
if (error) say(`error: cannot run ${command[0]}: ${error.code}`)
process.exit(code)
