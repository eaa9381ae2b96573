// The demonstration, as `npm start` runs it: it shows every kind of interrupt and every sender, it
// has verified what it shows, and it ends by itself.

import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { runCli, UserFolder } from './run-cli.ts'

test('the demonstration shows three kinds, four senders and the table, and succeeds', async () => {
  const { status, stdout, stderr, endedByItself } = await runCli(['demo'])
  assert.equal(stderr, '')
  assert.equal(status, 0)
  assert.ok(endedByItself)
  assert.ok(stdout.includes(processorsInWords()), stdout)
  assert.ok(!stdout.includes('\u001B'), 'there are colours in a pipe')

  const sent = [
    /0 {2}smpCallFunction\(\w+\) +000008fb {2}mask 0x[0-9a-f]{2} +1-[3-7] +[\d,]+$/m,
    /0 {2}onEachCpu\(\w+\) +000008fb/,
    /1 {2}smpCallFunctionSingle\(2, .*\) +000008fb {2}mask 0x04 +2 /,
    /0 {2}smpSendReschedule\(1\) +000008fc {2}mask 0x02 +1 /,
    /0 {2}reschedTask\(3\) +000008fc {2}mask 0x08 +3 /,
    /0 {2}flushTlbPage\(5\) +000008fd {2}mask 0x[0-9a-f]{2} +1-[3-7] /,
    /0 {2}sendIpiAll\(0x31\) +00080831 {2}all +0-[3-7] /,
    /0 {2}sendIpiAllButSelf\(0x31\) +000c0831 {2}all but self +1-[3-7] /,
    /0 {2}sendIpiSelf\(0x31\) +00040831 {2}self +0 /,
    /0 {2}sendIpiMask\(mask, 0x31\) +00000831 {2}mask 0x[0-9a-f]{2} +0,[3-7] /,
    /1 {2}sendIpiAllButSelf\(0x31\) +000c0831 {2}all but self +0,2-[3-7] /,
  ]
  for (const line of sent) assert.match(stdout, line)
  const verified = [
    /17984 primes below 200000/,
    /CPU 1 reached CPU 2 directly: CPU 0 stood still/,
    /nothing was marked, so nobody rescheduled/,
    /each ran its task 25 times, after the handler had returned/,
    /all go on reading the stale 100/,
    /flushTlbPage\(5\) has returned: all read 120/,
    /3 threads serve 100 accounts out of SQLite by HTTP/,
    /^ +createCache( +[\d,.]+){2} %( +[\d.]+){2} +0$/m,
    /ok {2}no read through createCache was older than what had been acknowledged/,
    /(\d+) interrupts sent, \1 handled/,
    /normal: they waited [\d,]+ µs/,
    /realtime: they ran after [\d,]+ µs, on top of what computes/,
    /smpSendStop\(\) has stopped CPUs 1-[3-7]/,
  ]
  for (const line of verified) assert.match(stdout, line)
  assert.match(stdout, /^ +CPU0 +CPU1 +CPU2 +CPU3/m)
  assert.match(stdout, /^ +CAL: +0( +[1-9]\d*)+ +Function call interrupts$/m)
  assert.match(stdout, /^ +RES: +0( +[1-9]\d*)+ +Rescheduling interrupts$/m)
  assert.match(stdout, /^ +TLB: +0( +25)+ +TLB shootdowns$/m)
})

/** What four CPUs or more mean on this machine. */
function processorsInWords(): string {
  const processors = availableParallelism()
  if (processors === 1) return '1 processor runs one thread at once'
  if (processors < 4) return `${processors} processors run ${processors} threads at once`
  return `${processors} processors are here, so all CPUs run at once`
}

test('with two CPUs it says what needs a third', async () => {
  const { status, stdout } = await runCli(['demo', '--cpus', '2'])
  assert.equal(status, 0)
  assert.match(stdout, /needs a third CPU: --cpus 3/)
  assert.match(stdout, /smpSendStop\(\) has stopped CPU 1 /)
})

test("a function of the user's own module takes the place of the bundled tasks", async () => {
  using folder = new UserFolder({
    'mine.mjs': `
      import { threadId } from 'node:worker_threads'
      export function report() { return { from: 'thread ' + threadId } }`,
  })
  const { status, stdout, stderr } = await runCli(
    ['demo', '--cpus', '3', '--module', 'mine.mjs', '--function', 'report'],
    folder.path,
  )
  assert.equal(stderr, '')
  assert.equal(status, 0)
  assert.match(stdout, /They run report of .*mine\.mjs/)
  assert.match(stdout, /smpCallFunction\(report\) +000008fb {2}mask 0x06 +1-2 /)
  for (const cpu of [0, 1, 2]) {
    assert.match(stdout, new RegExp(`CPU ${cpu} returned { from: 'thread ${cpu}' }`))
  }
})

test('without a name the only function that a module exports is called', async () => {
  using folder = new UserFolder({ 'one.mjs': `export const only = () => 'the only one'` })
  const { status, stdout } = await runCli(
    ['demo', '--cpus', '2', '--module', join(folder.path, 'one.mjs')],
    folder.path,
  )
  assert.equal(status, 0)
  assert.match(stdout, /CPU 1 returned 'the only one'/)
})

test('if something goes wrong on the way, it says so and fails', async () => {
  using folder = new UserFolder({
    'bad.mjs': `export function bad() { throw new RangeError('out of everything') }`,
  })
  const { status, stderr, endedByItself } = await runCli(
    ['demo', '--cpus', '3', '--module', 'bad.mjs', '--function', 'bad'],
    folder.path,
  )
  assert.equal(status, 1)
  assert.ok(endedByItself)
  assert.match(stderr, /"bad" failed on 2 of 2 CPUs; CPU 1: out of everything/)
  assert.match(stderr, /RangeError: out of everything\n.*bad\.mjs:1:/)
})

test('wrong input for the demonstration ends with status 2', async () => {
  using folder = new UserFolder({
    'two.mjs': `export function first() {}\nexport function second() {}`,
  })
  const wrong: readonly (readonly [string[], RegExp])[] = [
    [['demo', '--cpus', '1'], /It is an integer from 2 to 8/],
    [['demo', '--cpus', '9'], /It is an integer from 2 to 8/],
    [['demo', '--function', 'first'], /--function names a function of the module/],
    [['demo', '--module', 'two.mjs'], /with --function; it exports these functions: first, second/],
    [['demo', '--module', 'gone.mjs'], /there is no module .*gone\.mjs/],
    [['demo', 'superfluous'], /too many arguments/],
  ]
  for (const [args, message] of wrong) {
    const { status, stdout, stderr } = await runCli(args, folder.path)
    assert.match(stderr, message)
    assert.equal(stdout, '')
    assert.equal(status, 2, args.join(' '))
  }
})
