// How the scripts of this folder start other programs. Nothing here or beside it imports a package:
// the scripts must run on a fresh clone, before anything is installed.

import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The folder of package.json. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** A message on stderr, because stdout belongs to the program that `npm start` runs. */
export function say(message) {
  console.error(message)
}

/** Ends the script with a message and without a stack, which would only show these scripts. */
export function fail(message) {
  say(message)
  process.exit(1)
}

/**
 * Runs a program to its end and gives its exit status, with what it printed if `capture` is set.
 * A program that hangs seldom listens, so the limit kills, unless a politer signal is named.
 * A signal that ends this script is passed on: otherwise a cancelled test run would leave threads
 * behind that spin on the processors of whoever comes next.
 */
export function run(command, args, options = {}) {
  const { capture = false, timeoutMs = 0, timeoutSignal = 'SIGKILL', ...spawnOptions } = options
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      stdio: capture ? ['ignore', 'pipe', 'pipe'] : 'inherit',
      ...spawnOptions,
    })
    let output = ''
    child.stdout?.setEncoding('utf8').on('data', (text) => (output += text))
    child.stderr?.setEncoding('utf8').on('data', (text) => (output += text))

    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']
    const passOn = (signal) => child.kill(signal)
    for (const signal of signals) process.on(signal, passOn)
    const timer = timeoutMs > 0 ? setTimeout(passOn, timeoutMs, timeoutSignal) : undefined

    child.on('error', reject)
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      for (const name of signals) process.off(name, passOn)
      resolve({ status: code ?? 1, signal, output })
    })
  })
}

/** Runs a JavaScript file with the Node that runs this script. */
export function runNode(args, options) {
  return run(process.execPath, args, options)
}

/**
 * Runs npm. Inside `npm run` its own file is known and is started by Node, which needs no shell;
 * by hand the command is looked up, and on Windows that is a batch file, which does need one.
 */
export function runNpm(args, options) {
  const file = process.env.npm_execpath
  if (file?.endsWith('.js')) return runNode([file, ...args], options)
  const shell = process.platform === 'win32'
  return run('npm', shell ? args.map((arg) => `"${arg}"`) : args, { shell, ...options })
}

/** The file of a command that a development dependency provides, to be given to `runNode`. */
export function tool(packageName, command = packageName) {
  const folder = join(root, 'node_modules', packageName)
  const { bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  return join(folder, typeof bin === 'string' ? bin : bin[command])
}

/** Brings the dependencies and the named builds up to date, or ends the script. */
export async function setup(...targets) {
  const { status } = await runNode([join(root, 'scripts', 'setup.mjs'), ...targets])
  if (status !== 0) process.exit(status)
}
