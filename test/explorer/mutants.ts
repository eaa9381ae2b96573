/**
 * Deliberate faults in copies of the real code, each with the scenarios that must find it. The text is
 * that of the compiled file; where it is not found, the mutant is out of date and the run fails.
 */

/** One change of the text of one file, below build/src. */
export interface Edit {
  readonly file: string
  readonly from: string
  readonly to: string
}

/** One fault. */
export interface Mutant {
  readonly name: string
  /** More than one where one thing is made sure in two ways, and either is enough. */
  readonly edits: readonly Edit[]
  /**
   * Names of scenarios, or parts of names: of each, one must find it. With `, anywhere` behind it:
   * interrupted at each method and turn of a loop.
   */
  readonly found: readonly string[]
  /** For one that chance does not find soon: how many preemptions it takes. */
  readonly preemptions?: number
}

function mutant(
  name: string,
  found: string | readonly string[],
  ...edits: readonly (readonly [string, string, string])[]
): Mutant {
  return {
    name,
    found: typeof found === 'string' ? [found] : found,
    edits: edits.map(([file, from, to]) => ({ file, from, to })),
  }
}

/** A send as an xAPIC without care has it: the destination, something else, the command. */
const IN_TWO_WRITES = [
  'kernel/send.js',
  'this.#cpu.apic.sendCommand(destination, prepareIcr(0, vector));',
  'this.#cpu.apic.write(0x310, destination << 24);\n        this.#onlineCount();\n        this.#cpu.apic.write(APIC_ICR, prepareIcr(0, vector));',
] as const

/** An NMI handler that sends, and leaves its destination behind. */
const NMI_WRITES_ICR2 = [
  'kernel/smp-interrupts.js',
  'cpu.count(EVENT.nmi);',
  'cpu.count(EVENT.nmi);\n        apic.write(0x310, 0);',
] as const

export const MUTANTS: readonly Mutant[] = [
  mutant('sleeps without a look at what was posted', 'halts while an interrupt comes', [
    'hardware/core.js',
    'if (this.attentionPending)\n            this.#softAttention |= this.apic.harvest() & SOFT_ATTENTION;\n        const canTake',
    'const canTake',
  ]),
  mutant('parks without a look at what was posted', 'parks while an interrupt comes', [
    'kernel/idle.js',
    'if (core.attentionPending || this.#cpu.needResched)\n            this.#turn();',
    '',
  ]),
  mutant('says that it is parked after it has looked', 'parks while an interrupt comes', [
    'kernel/idle.js',
    'core.state = CPU_STATE.parked;\n        this.#doorbell.arm();\n        if (core.attentionPending || this.#cpu.needResched)\n            this.#turn();',
    'const late = core.attentionPending;\n        core.state = CPU_STATE.parked;\n        this.#doorbell.arm();\n        if (late)\n            this.#turn();',
  ]),
  mutant('takes the requests before the attention that announces them', 'two post to one who', [
    'hardware/apic/receiver.js',
    'const attention = this.#descriptor.takeAttention();\n        if ((attention & ATTENTION.single) !== 0) {\n            this.acceptFixed(attention >>> ATTENTION_VECTOR_SHIFT, false);\n        }\n        for (let rest = attention & POSTED_WORDS; rest !== 0; rest &= rest - 1) {\n            const word = lowestBit(rest);\n            const posted = this.#descriptor.takePosted(word);',
    'const early = [3, 5].map((word) => this.#descriptor.takePosted(word));\n        const attention = this.#descriptor.takeAttention();\n        if ((attention & ATTENTION.single) !== 0) {\n            this.acceptFixed(attention >>> ATTENTION_VECTOR_SHIFT, false);\n        }\n        for (const word of [3, 5]) {\n            const posted = early[word === 3 ? 0 : 1];',
  ]),
  mutant('overwrites a vector that is posted already', 'two post to one who', [
    'hardware/descriptor.js',
    'if (compareExchange(this.#words, this.#page + CPU.attention, 0, single) !== 0)\n            return false;',
    'store(this.#words, this.#page + CPU.attention, single);',
  ]),
  mutant(
    'interrupts before the request is in the queue',
    'one blocks until an idle one has answered (queue)',
    [
      'kernel/call-queue.js',
      'const pushed = pushSlot(memory, memory.cpuPage(target) + CPU.callQueue, batch.slots[0]);',
      "this.#senders.sendIpiCpu(target, VECTOR.CALL_FUNCTION_VECTOR);\n            const pushed = pushSlot(memory, memory.cpuPage(target) + CPU.callQueue, batch.slots[0]);\n            if (pushed === 'first')\n                return ALL_ONLINE;",
    ],
  ),
  mutant('lets go of the record before everybody has copied it', '(callData)', [
    'kernel/call-data.js',
    'if (!this.#allSet(waitFor, asked, batch.wait))\n                    return false;',
    '',
  ]),
  mutant(
    'uses a slot again before its target has taken it',
    'the slot of a request that nobody waits for',
    [
      'kernel/call-book.js',
      'return (state === REQUEST_STATE.done || state',
      'return (state === REQUEST_STATE.queued || state === REQUEST_STATE.done || state',
    ],
  ),
  mutant('looks whether the queue is empty, and pushes after that', 'two ask one who idles', [
    'kernel/call-queue.js',
    'const pushed = pushSlot(memory, memory.cpuPage(target) + CPU.callQueue, batch.slots[0]);',
    "const before = memory.readCpu(target, CPU.callQueue);\n            const found = pushSlot(memory, memory.cpuPage(target) + CPU.callQueue, batch.slots[0]);\n            const pushed = found === 'closed' ? found : before === 0 ? 'first' : 'queued';",
  ]),
  mutant('clears the mark after it has looked for work', 'is marked for rescheduling again', [
    'kernel/resched.js',
    'const old = this.#cpu.clearThreadFlags(TIF.NEED_RESCHED | TIF.POLLING_NRFLAG);\n        const flags = this.#cpu.localIrqSave();',
    'this.onSchedule();\n        this.#cpu.clearThreadFlags(TIF.NEED_RESCHED);\n        return;\n        const flags = this.#cpu.localIrqSave();',
  ]),
  mutant('lets an INIT leave an earlier start-up latched', 'a start-up, an INIT', [
    'hardware/descriptor.js',
    'store(this.#words, this.#page + CPU.initSipi, INIT_SIPI.init);',
    'or(this.#words, this.#page + CPU.initSipi, INIT_SIPI.init);',
  ]),
  mutant(
    'counts who has acknowledged an earlier step of the round',
    'two rounds of standing still',
    [
      'kernel/rendezvous.js',
      'if (memory.readCpu(cpu, CPU.stopAck) !== word &&',
      'if (memory.readCpu(cpu, CPU.stopAck) >>> PHASE_BITS !== word >>> PHASE_BITS &&',
    ],
  ),
  mutant('runs its own part of a call with interrupts on', 'runs its own part of a call', [
    'kernel/outgoing-calls.js',
    '#runLocal(plan) {\n        const flags = this.#cpu.localIrqSave();',
    '#runLocal(plan) {\n        const flags = false;',
  ]),
  mutant('does not look at its queue when it hears of a burial', 'dies while it asks', [
    'kernel/kernel.js',
    'if (memory.readCpu(id, CPU.callQueue) > 0)\n            apic.raise(VECTOR.CALL_FUNCTION_VECTOR);',
    '',
  ]),
  mutant(
    'never acknowledges a call interrupt',
    'one blocks until an idle one has answered (queue)',
    [
      'kernel/smp-interrupts.js',
      'callFunctionInterrupt: () => {\n            apic.eoi();',
      'callFunctionInterrupt: () => {',
    ],
  ),
  mutant('leaves a halt asleep into which an interrupt was forced', 'may be forced, anywhere', [
    'hardware/core.js',
    'if (taken)\n            this.#endHalt();',
    '',
  ]),
  mutant(
    'looks at the mark, and takes the promise back after it',
    ['stops polling while it is marked', 'a CPU stops polling while tasks come'],
    [
      'kernel/idle.js',
      'const old = this.#cpu.clearThreadFlags(TIF.POLLING_NRFLAG);',
      'const old = this.#cpu.threadFlags;\n        this.#cpu.clearThreadFlags(TIF.POLLING_NRFLAG);',
    ],
    [
      'kernel/idle.js',
      'if (core.attentionPending || this.#cpu.needResched)\n            this.#turn();\n    }\n    /** Comes back',
      'if (core.attentionPending)\n            this.#turn();\n    }\n    /** Comes back',
    ],
  ),
  mutant('raises its priority, and never lowers it', 'lowers its priority', [
    'hardware/apic/interrupts.js',
    'this.#words[this.#tpr] = priority;\n        this.#updatePriority();',
    'const higher = priority > this.#words[this.#ppr];\n        this.#words[this.#tpr] = priority;\n        if (higher) this.#updatePriority();',
  ]),
  mutant(
    'publishes the record before it is filled',
    'a call interrupt that nobody asked for',
    [
      'kernel/call-data.js',
      'memory.writeMask(HEADER.callStarted, CpuMask.of());',
      'store(words, HEADER.callData, id + 1);\n        memory.writeMask(HEADER.callStarted, CpuMask.of());',
    ],
    [
      'kernel/call-data.js',
      'if (initiator < 0 || !memory.testCpu(HEADER.callMask, id))',
      'if (initiator < 0)',
    ],
  ),
  mutant(
    'serves a record in which it was not counted',
    'a stray call interrupt at a CPU that is not asked',
    [
      'kernel/call-data.js',
      'if (initiator < 0 || !memory.testCpu(HEADER.callMask, id))',
      'if (initiator < 0)',
    ],
    [
      'kernel/serve.js',
      'if (targetOf(flags) !== id)\n                return undefined;\n            if (stateOf(flags) === REQUEST_STATE.cancelled)',
      'if (stateOf(flags) === REQUEST_STATE.cancelled)',
    ],
  ),
  mutant(
    'leaves its door open',
    'leaves while another asks it (queue)',
    [
      'kernel/call-queue.js',
      'const last = exchange(this.#cpu.memory.words, this.#head, CLOSED);',
      'const last = exchange(this.#cpu.memory.words, this.#head, 0);',
    ],
    [
      'kernel/death.js',
      'exchange(memory.words, memory.cpuPage(dead) + CPU.callQueue, CLOSED);',
      '',
    ],
  ),
  mutant(
    'waits for a CPU that has left',
    ['leaves while another asks it (callData)', 'leaves while another awaits it (callData)'],
    [
      'kernel/call-data.js',
      'return memory.testCpu(at, cpu) || !this.#isOpen(cpu);',
      'return memory.testCpu(at, cpu);',
    ],
    [
      'kernel/call-data.js',
      'if (cpuState === CPU_STATE.dead || cpuState === CPU_STATE.offline)',
      'if (cpuState === -1)',
    ],
  ),
  mutant(
    'takes no interrupts while it blocks',
    ['two block for each other', 'two block to have dropped what both have read'],
    [
      'kernel/wait.js',
      "this.#haltUnless(condition, Math.min(rest, LOOK_AROUND_MS));\n            core.deliverInterrupts('safepoint');",
      'this.#haltUnless(condition, Math.min(rest, LOOK_AROUND_MS));',
    ],
  ),
  mutant('waits for a flush with interrupts off', 'flushes, and is called by whom it waits for', [
    'kernel/flush-waits.js',
    'if (!waits.block(request.finish, timeoutMs))',
    'this.#parts.cpu.localIrqDisable();\n            if (!waits.block(request.finish, timeoutMs))',
  ]),
  mutant(
    'lets a handler wait',
    'a handler calls while its CPU calls',
    ['kernel/wait.js', 'if (cpu.inInterrupt) {', 'if (cpu.id < 0) {'],
    ['kernel/wait.js', 'if (cpu.irqsDisabled) {', 'if (cpu.id < 0) {'],
  ),
  mutant('opens its door twice, and forgets what came between', 'comes up while another asks it', [
    'kernel/secondary.js',
    'memory.setCpu(HEADER.callinMask, id);',
    'driver.open();\n        memory.setCpu(HEADER.callinMask, id);',
  ]),
  mutant('takes interrupts while it stands still', 'two rounds of standing still', [
    'kernel/rendezvous.js',
    'this.#cpu.cpuRelax();\n        if (mayGoOn',
    'this.#cpu.localIrqEnable();\n        this.#cpu.cpuRelax();\n        if (mayGoOn',
  ]),
  mutant('goes on as soon as the function has run', 'two rounds of standing still', [
    'kernel/rendezvous.js',
    'if (phase === OVER)',
    'if (phase === OVER || phase === PHASE.third && phase === acknowledged)',
  ]),
  mutant('stops the machine although another does', 'two stop the machine at once', [
    'kernel/control.js',
    '!this.#busy && (this.#busy = this.lock.tryAcquire())',
    'this.#busy = true',
  ]),
  mutant('stops whoever stops it', 'two stop each other', [
    'kernel/stop-cpus.js',
    'const first = compareExchange(memory.words, HEADER.stoppingCpu, 0, cpu.id + 1) & ~BY_NMI;',
    'const first = 0;',
  ]),
  mutant(
    'writes destination and command apart, with interrupts on',
    'a handler sends in the middle of a send (flat)',
    IN_TWO_WRITES,
    [
      'kernel/send.js',
      'const send = (bits, vector) => {\n            const flags = this.#cpu.localIrqSave();',
      'const send = (bits, vector) => {\n            const flags = this.#cpu.irqsDisabled;',
    ],
  ),
  mutant(
    'sends from an NMI handler, and does not put the destination back',
    'an NMI comes in the middle of a send (flat)',
    IN_TWO_WRITES,
    NMI_WRITES_ICR2,
  ),
  mutant('ends an interrupt that an NMI does not owe', 'an NMI comes in the middle of a handler', [
    'kernel/smp-interrupts.js',
    'cpu.count(EVENT.nmi);',
    'cpu.count(EVENT.nmi);\n        apic.eoi();',
  ]),
  mutant('keeps interrupts on in a handler', 'a handler looks up while the same vector comes', [
    'hardware/core.js',
    'this.#setFlag(false);\n        this.#open();\n        try {\n            this.#handlers.gates',
    'this.#open();\n        try {\n            this.#handlers.gates',
  ]),
  mutant('leaves in service what an earlier life had begun', 'dies, perhaps in a handler', [
    'hardware/apic/interrupts.js',
    'this.#words[this.#isr + word * STRIDE] = 0;',
    '',
  ]),
  mutant(
    'takes the bit for the answer of a CPU that is slow over an earlier flush',
    'dies while it flushes',
    [
      'kernel/tlbstate.js',
      'if (memory.readCpu(cpu, CPU.flushAck) === sequence)',
      'if (!memory.testCpu(HEADER.flushMask, cpu))',
    ],
  ),
  mutant(
    'buries without giving the locks back',
    'dies while it flushes',
    ['kernel/death.js', 'tlbLock.recover(dead);', ''],
    [
      'kernel/robust-lock.js',
      'if (isVoid(this.#cpu, found))',
      'if (found < 0 && isVoid(this.#cpu, found))',
    ],
  ),
  mutant('forgets what was asked of the dead', 'dies while it is asked (queue)', [
    'kernel/death.js',
    'settleRequestsOf(cpu, dead);\n    store(',
    'store(',
  ]),
  mutant(
    'gives a slot back twice when a call gives up as its answer comes',
    'gives up while the answer comes (queue)',
    [
      'kernel/call-book.js',
      'if ((flags & REQUEST_FLAG.notify) === 0)\n                    this.#discard(slot, target);',
      'this.#discard(slot, target);\n                if ((flags & REQUEST_FLAG.notify) === 0) ;',
    ],
  ),
  mutant(
    'takes a later life for the one that was asked (callData)',
    'dies while it is asked, and comes up again (callData)',
    [
      'kernel/call-data.js',
      'return this.#cpu.memory.readCpu(cpu, CPU.incarnation) !== life;',
      'return cpu < 0 && life < 0;',
    ],
  ),
  mutant(
    'takes a later life for the one that was asked',
    'dies while it is asked, and comes up again',
    [
      'kernel/call-book.js',
      'memory.readCpu(target, CPU.incarnation) !== this.#open.incarnation(slot)',
      'false',
    ],
  ),
  mutant(
    'announces the answer before it is written',
    'one blocks until an idle one has answered (queue)',
    [
      'kernel/serve.js',
      'words[at] = REQUEST_STATUS.returned;\n            this.#values.put(',
      'words[at] = REQUEST_STATUS.returned;\n            this.#complete(call.slot);\n            requestFlags(this.#cpu.memory, call.slot);\n            this.#values.put(',
    ],
  ),
  mutant(
    'leaves polling without a look',
    'stops polling while an interrupt comes',
    [
      'kernel/idle.js',
      'if (goesOn || core.attentionPending || (old & TIF.NEED_RESCHED) !== 0)',
      'if (goesOn)',
    ],
    [
      'kernel/idle.js',
      'if (core.attentionPending || this.#cpu.needResched)\n            this.#turn();',
      '',
    ],
  ),
  mutant('tells nobody that an answer is there', 'one awaits an idle one (queue)', [
    'kernel/serve.js',
    'descriptors[source].attend(ATTENTION.completion);',
    '',
  ]),
  mutant('forgets what is no vector when a vector comes with it', 'two await each other (queue)', [
    'hardware/apic/receiver.js',
    'return attention;',
    'return (attention & ATTENTION.single) !== 0 ? 0 : attention;',
  ]),
  mutant('does not say that a target was gone already', 'leaves while another awaits it (queue)', [
    'kernel/outgoing-calls.js',
    'call.settle(target, offlineOutcome(target));',
    '',
  ]),
  mutant('wakes nobody who waits for slots', 'three calls for two slots (queue)', [
    'kernel/outgoing-calls.js',
    'parts.book.onFreed = () => this.#slotQueue.onFreed();',
    '',
  ]),
  mutant('stops the others with interrupts off', 'stops one that has called it and waits', [
    'kernel/stop-cpus.js',
    "waits.checkMayWait('smpSendStop', false);",
    "waits.checkMayWait('smpSendStop', false);\n            cpu.localIrqDisable();",
  ]),
  mutant('waits for ever for one that does not stop', 'stops one that takes no interrupts', [
    'kernel/stop-cpus.js',
    'Math.max(0, timeoutMs), () => undefined)',
    'Infinity, () => undefined)',
  ]),
  mutant('leaves a space before it has another', 'switches to another space while the old', [
    'kernel/tlbstate.js',
    'memory.setCpu(vmMask(next), id);\n            this.#loadTables(next);\n            memory.clearCpu(vmMask(prev), id);',
    'memory.clearCpu(vmMask(prev), id);\n            memory.setCpu(vmMask(next), id);\n            this.#loadTables(next);',
  ]),
  mutant('flushes without the lock', 'two flush one space', [
    'kernel/tlbstate.js',
    'if (!this.#lock.tryAcquire())\n                        return false;',
    '',
  ]),
  mutant(
    'writes destination and command apart, with interrupts on (bigsmp)',
    'a handler sends in the middle of a send (bigsmp)',
    IN_TWO_WRITES,
    [
      'kernel/send.js',
      'sendCpu: (cpu, vector) => {\n                const flags = this.#cpu.localIrqSave();',
      'sendCpu: (cpu, vector) => {\n                const flags = this.#cpu.irqsDisabled;',
    ],
  ),
  mutant(
    'keeps the destination where a handler replaces it',
    'a handler sends in the middle of a send (x2apic)',
    [
      'kernel/send.js',
      'this.#cpu.apic.sendCommand(cpu, modeAndVector(vector));',
      'this.destination = cpu;\n            this.#onlineCount();\n            this.#cpu.apic.sendCommand(this.destination, modeAndVector(vector));',
    ],
  ),
  mutant(
    'sends from an NMI handler, and does not put the destination back (bigsmp)',
    'an NMI comes in the middle of a send (bigsmp)',
    IN_TWO_WRITES,
    NMI_WRITES_ICR2,
  ),
  mutant(
    'lets a forced entry in while it takes an interrupt',
    'a handler looks up while the same vector comes again and again, anywhere',
    [
      'hardware/core.js',
      'if (this.#closed)\n            this.#keptOut = true;\n        if (this.#closed || this.#shadow)',
      'if (this.#shadow)',
    ],
  ),
  mutant('leaves a task without a look at who has asked', 'a task ends while', [
    'kernel/task-guard.js',
    'if (compareExchange(words, record + TASK.task, running, 0) === running)',
    'if (store(words, record + TASK.task, 0) === 0)',
  ]),
  mutant('forgets to tell who has asked', 'a task ends while', [
    'kernel/task-guard.js',
    'this.#level--;\n        this.#wakeAsker(record);',
    'this.#level--;',
  ]),
  mutant('waits for a lock that a buried thread has taken', 'is buried and goes on for a while', [
    'kernel/robust-lock.js',
    'if (isVoid(this.#cpu, found))\n                this.#takeBack(found);',
    'if (found < 0)\n                this.#takeBack(found);',
  ]),
  mutant("lets go of what is somebody else's", 'is buried and goes on for a while', [
    'kernel/robust-lock.js',
    'if ((found & ~WAITERS) !== this.word)\n                return;',
    '',
  ]),
  mutant('programs before everybody stands', 'dies before it asks the other', [
    'kernel/rendezvous.js',
    'if (phase !== PHASE.first)\n                    run(phase);',
    'if (phase < PHASE.third)\n                    run(phase + 1);',
  ]),
  mutant('leaves before all have programmed', 'adds a range while an interrupt comes', [
    'kernel/rendezvous.js',
    'if (phase === OVER)',
    'if (phase === OVER || (phase === PHASE.second && phase === acknowledged))',
  ]),
  mutant('takes interrupts while it programs', 'adds a range while an interrupt comes', [
    'kernel/mtrr-handler.js',
    'const flags = this.#cpu.localIrqSave();',
    'const flags = this.#cpu.irqsDisabled;',
  ]),
  mutant('changes types although another does', 'two add a range at once', [
    'kernel/mtrr.js',
    'return this.#control.exclusively(what, this.#timeoutMs, async () => {',
    'return Promise.resolve().then(async () => {',
  ]),
  mutant('comes up with the registers of its own', 'adds a range before one comes up', [
    'kernel/mtrr-handler.js',
    'if (id === BOOT_CPU)',
    'if (id >= BOOT_CPU)',
  ]),
  mutant(
    'waits in a rendezvous for one that is dead',
    ['adds a range and dies', 'dies while it is asked to add a range'],
    ['kernel/rendezvous.js', '&& !this.#isGone(cpu))', '&& cpu >= 0)'],
  ),
  mutant('waits for those whom the dead did not ask', 'dies before it asks the other', [
    'kernel/rendezvous.js',
    '|| this.#initiatorIsGone())',
    '|| false)',
  ]),
  mutant('leaves the words to the one who asks', 'keys get another type', [
    'kernel/memory-types.js',
    'words.forEach(',
    'if (initiator === this.#cpu.id)\n            words.forEach(',
  ]),
  mutant('gives keys a type without taking the old one first', 'keys get another type', [
    'kernel/mtrr.js',
    'const sequence = change(between);',
    'const sequence = change(after);',
  ]),
  mutant('says that it is idle after it has looked for tasks', 'goes idle while tasks come', [
    'kernel/sched/scheduler.js',
    'this.#setState(level === IDLE_LEVEL ? SCHED.idle : SCHED.running + level);\n        if (!this.#isOpen)\n            return -1;\n        for (let priority = PRIORITY_COUNT - 1; priority > level; priority--) {\n            const task = this.#queues.take(this.#id, priority, true, this.#claim);\n            if (task >= 0)\n                return task;\n        }',
    'for (let priority = PRIORITY_COUNT - 1; priority > level; priority--) {\n            const task = this.#queues.take(this.#id, priority, true, this.#claim);\n            if (task >= 0)\n                return task;\n        }\n        this.#setState(level === IDLE_LEVEL ? SCHED.idle : SCHED.running + level);',
  ]),
  mutant('forgets those who wait for a slot', 'more tasks come than there are slots', [
    'kernel/sched/task-book.js',
    'this.#closeTaken();\n        this.#handOver();',
    'this.#closeTaken();',
  ]),
  mutant(
    'overwrites what another has pushed',
    'two submit to one',
    [
      'kernel/sched/run-queue.js',
      'if (compareExchange(words, at, cell, (round << TASK_BITS) | task) === cell) {',
      'if (store(words, at, (round << TASK_BITS) | task) !== cell) {',
    ],
    [
      'kernel/sched/run-queue.js',
      'import { compareExchange, load }',
      'import { compareExchange, load, store }',
    ],
  ),
  mutant('waits for a submitter that is dead to move the tail', 'a submitter dies', [
    'kernel/sched/run-queue.js',
    'if (load(words, at) >>> TASK_BITS === round) {\n                compareExchange(words, tail, position, (position + 1) | 0);\n            }',
    '',
  ]),
  mutant('claims a task that another has claimed', 'two take from one queue', [
    'kernel/sched/scheduler.js',
    'if (tasks.change(task, flags, movedTo(flags, TASK_STATE.running, this.#id)))',
    'if (store(tasks.words, tasks.at(task) + TASK_SLOT.flags, movedTo(flags, TASK_STATE.running, this.#id)))',
  ]),
  mutant('leaves what a dead thread ran as it was', 'and one of them dies', [
    'kernel/sched/burial.js',
    'return movedTo(flags, TASK_STATE.died, cpuOf(flags));',
    'return flags;',
  ]),
  mutant('leaves what a dead thread had not announced', 'and one of them dies', [
    'kernel/sched/burial.js',
    'return flags | TASK_FLAG.orphaned;',
    'return flags;',
  ]),
  mutant(
    'leaves tasks in a queue that is closed',
    'a CPU leaves while a task comes',
    [
      'kernel/sched/task-book.js',
      'if (state === SCHED.closed)\n            return !this.#takeBack(task);',
      '',
    ],
    [
      'kernel/sched/task-book.js',
      'if (task !== undefined && this.#isClosed(cpuOf(flags)))\n                    this.#move(task);',
      '',
    ],
  ),
  mutant('forgets those who wait for a CPU', 'opens its queue while tasks come', [
    'kernel/sched/task-book.js',
    'for (const task of this.#homeless.splice(0)) {',
    'for (const task of []) {',
  ]),
  mutant('gives up a task that has begun', 'is given up while it is claimed', [
    'kernel/sched/task-book.js',
    'if (!this.#tasks.change(task.id, flags, next))\n                continue;',
    'store(this.#tasks.words, this.#tasks.at(task.id) + TASK_SLOT.flags, next);',
  ]),
  mutant('interrupts idle CPUs only', 'while another runs and polls', [
    'kernel/sched/task-book.js',
    'if (state < SCHED.running + task.priority)',
    'if (state === SCHED.idle)',
  ]),
  mutant('looks up without a look at the generation', 'reads while another flushes (visible)', [
    'kernel/translations.js',
    'if (this.#lazy || load(this.#published, 0) !== this.#seen)\n            this.service();\n        return this.buffer.find(key);',
    'return this.buffer.find(key);',
  ]),
  mutant(
    'says that it is active after it has read the generation',
    'gets lazy and active again while another flushes',
    [
      'kernel/translations.js',
      'store(this.#cpu.memory.words, this.#line + TLB.state, TLB_STATE.active);\n            this.turn++;\n            this.#onActive(this);\n        }\n        const generation = load(this.#published, 0);',
      'this.turn++;\n            this.#onActive(this);\n        }\n        const generation = load(this.#published, 0);\n        if (wasLazy)\n            store(this.#cpu.memory.words, this.#line + TLB.state, TLB_STATE.active);',
    ],
  ),
  mutant(
    'looks who is active before it publishes',
    'gets active while another flushes',
    [
      'kernel/tlb-generations.js',
      'const generation = this.#log(mm).append(flushes);',
      'const before = this.flushTlbOthers(mm, (load(this.#log(mm).published, 0) + flushes.length) | 0, { level, wakeLazy });\n        this.#log(mm).append(flushes);',
    ],
    [
      'kernel/tlb-generations.js',
      'return this.flushTlbOthers(mm, generation, { level, wakeLazy });',
      'return before;',
    ],
    [
      'kernel/tlb-generations.js',
      "import { Translations } from './translations.js';",
      "import { Translations } from './translations.js';\nimport { load } from '../hardware/memory.js';",
    ],
  ),
  mutant('lets a fill go on that was flushed', 'asks twice while another flushes', [
    'kernel/translations.js',
    'this.#fills.fence(from);\n                return;\n            case FLUSH.range',
    'return;\n            case FLUSH.range',
  ]),
  mutant(
    'lets somebody join a walk that was flushed',
    'asks twice while another flushes',
    ['kernel/fills.js', 'this.#byHash.delete(hash);\n        for', 'for'],
    ['kernel/fills.js', 'this.#count--;\n        return true;', 'return !fill.fenced;'],
  ),
  mutant('flushes everything but fills', 'falls behind by more than the log has', [
    'kernel/translations.js',
    'this.#fills.fenceAll();',
    '',
  ]),
  mutant('acknowledges before it has dropped anything', 'reads while another flushes (dropped)', [
    'kernel/translations.js',
    'const { quarters } = this.log;\n        const behind',
    'store(this.#cpu.memory.words, this.#line + TLB.ack, generation);\n        this.#tellWaiters();\n        const { quarters } = this.log;\n        const behind',
  ]),
  mutant('takes the generation of now for what it has applied', 'two flush while a third reads', [
    'kernel/translations.js',
    'this.#seen = generation;\n        const { words }',
    'this.#seen = generation = load(this.#published, 0);\n        const { words }',
  ]),
  mutant('passes over records that are not there', 'two flush while a third reads', [
    'kernel/translations.js',
    'if (flush === undefined) {\n                    this.#full();\n                    break;\n                }',
    'if (flush === undefined)\n                    continue;',
  ]),
  mutant(
    'reads records that were overwritten',
    'falls behind by more than the log has',
    ['kernel/translations.js', 'if (missed || behind > this.#ceiling)', 'if (missed)'],
    [
      'kernel/flush-log.js',
      'if (--looks <= 0)\n                return undefined;',
      'if (--looks <= 0)\n                break;',
    ],
    [
      'kernel/flush-log.js',
      'if (load(this.#words, at + RECORD.commit) !== commit)\n            return undefined;',
      '',
    ],
  ),
  mutant('commits a record before it has written it', 'publishes past a record', [
    'kernel/flush-log.js',
    'store(this.#words, at + RECORD.kind, kind);\n        store(this.#words, at + RECORD.from, from);\n        store(this.#words, at + RECORD.to, to);\n        store(this.#words, at + RECORD.commit, commit);',
    'store(this.#words, at + RECORD.commit, commit);\n        store(this.#words, at + RECORD.kind, kind);\n        store(this.#words, at + RECORD.from, from);\n        store(this.#words, at + RECORD.to, to);',
  ]),
  mutant('does not look again after it has said that it waits', 'two await each other to drop', [
    'kernel/shootdown.js',
    'store(memory.words, line + TLB.awaited, 1);\n        return this.#isDone(target, awaited);',
    'store(memory.words, line + TLB.awaited, 1);\n        return false;',
  ]),
  mutant('tells those who wait before there is anything to tell', 'sleeps with a copy', [
    'kernel/translations.js',
    'store(words, this.#line + TLB.ack, generation);\n        if (atTurn)\n            store(words, this.#line + TLB.turnAck, generation);\n        this.#tellWaiters();',
    'this.#tellWaiters();\n        store(words, this.#line + TLB.ack, generation);\n        if (atTurn)\n            store(words, this.#line + TLB.turnAck, generation);',
  ]),
  mutant('waits for threads that are lazy', 'gets lazy and active again while another flushes', [
    'kernel/shootdown.js',
    'else if (state !== TLB_STATE.active && !wakeLazy)\n            return true;',
    '',
  ]),
  mutant('takes any acknowledgement for that of a turn', 'nothing runs any more that has read', [
    'kernel/shootdown.js',
    "line + (level === 'quiesced' ? TLB.turnAck : TLB.ack)",
    'line + TLB.ack',
  ]),
  mutant('acknowledges a turn in the middle of it', 'nothing runs any more that has read', [
    'kernel/translations.js',
    'if (atTurn)\n            store(words, this.#line + TLB.turnAck, generation);',
    'store(words, this.#line + TLB.turnAck, generation);',
  ]),
  mutant('gets lazy without a word', 'nothing runs any more that has read', [
    'kernel/translations.js',
    'blocked ? TLB_STATE.lazyBlocked : TLB_STATE.lazy);\n            this.#tellWaiters();',
    'blocked ? TLB_STATE.lazyBlocked : TLB_STATE.lazy);',
  ]),
  mutant('asks a lazy thread, which does nothing', 'a lazy one is woken to drop', [
    'kernel/translations.js',
    'if (!this.#left && generation !== this.#seen)',
    'if (!this.#left && !this.#lazy && generation !== this.#seen)',
  ]),
  mutant('buries without publishing what the dead had reserved', 'ends in the middle of a flush', [
    'kernel/tlb-death.js',
    'log.reap();',
    '',
  ]),
  mutant(
    'waits for one that has died',
    'waits for one that dies while it reads',
    [
      'kernel/tlb-death.js',
      'store(memory.words, memory.tlbLine(dead, mm) + TLB.state, TLB_STATE.off);',
      '',
    ],
    ['kernel/shootdown.js', 'does === CPU_STATE.dead || ', ''],
  ),
  mutant('keeps what it has read while the key was broken', 'falls behind while a key is broken', [
    'kernel/translations.js',
    '&& !this.#brokenHashes.has(fill.hash)',
    '',
  ]),
  mutant('forgets which keys are broken', 'falls behind while a key is broken', [
    'kernel/translations.js',
    'this.#fills.fenceAll();\n        this.#brokenHashes = this.broken.read();',
    'this.#fills.fenceAll();\n        this.#brokenHashes = new Set();',
  ]),
  mutant(
    'says that a key is broken before it is in the table',
    'falls behind while a key is broken',
    [
      'kernel/tlb-generations.js',
      'const place = space.broken.enter(hash);',
      'this.#publishBroken(space.mm, hash);\n        const place = space.broken.enter(hash);\n        return place;',
    ],
  ),
  mutant('changes what a key stands for without breaking it', 'a broken key is one value for all', [
    'kernel/tlb-generations.js',
    'if (place >= 0)\n            this.#publishBroken(space.mm, hash);',
    '',
  ]),
  mutant('buries without making keys whole', 'dies with a broken key', [
    'kernel/tlb-death.js',
    'new BrokenKeys(cpu, mm).reap(dead)',
    '[]',
  ]),
  mutant('makes keys whole and tells nobody', 'dies with a broken key', [
    'kernel/tlb-death.js',
    'if (hashes.length > 0) {',
    'if (hashes.length > 9) {',
  ]),
  {
    ...mutant(
      'enters a fill after it has looked whether the key is broken',
      'is interrupted when a key is broken that it is about to fill, anywhere',
      [
        'kernel/translations.js',
        'const flags = this.#cpu.localIrqSave();\n        this.poll();\n        const mayKeep = !this.#left && !this.#brokenHashes.has(fill.hash);',
        'this.poll();\n        const mayKeep = !this.#left && !this.#brokenHashes.has(fill.hash);\n        const flags = this.#cpu.localIrqSave();',
      ],
    ),
    preemptions: 1,
  },
  mutant('joins without saying so', 'joins while another flushes', [
    'kernel/translations.js',
    'memory.setCpu(vmMask(this.mm), id);',
    '',
  ]),
  mutant(
    'keeps a value after it has looked whether it was flushed',
    'is interrupted to drop what it has just read, anywhere',
    [
      'kernel/translations.js',
      'this.poll();\n        const flags = this.#cpu.localIrqSave();\n        const kept = this.#fills.delete(fill) && !isFlushed(fill, filling);\n        if (kept)',
      'this.poll();\n        const kept = this.#fills.delete(fill) && !isFlushed(fill, filling);\n        const flags = this.#cpu.localIrqSave();\n        if (kept)',
    ],
  ),
  mutant('uses a block again that somebody reads', 'behind one whose block is used again', [
    'services/store/heap.js',
    'const oldest = this.#oldestReader();',
    'const oldest = words[STORE.sequence];',
  ]),
  mutant('says that it reads after it has looked at the chain', 'behind one whose block is used', [
    'services/store/shared-store.js',
    'store(words, this.#reader, load(words, STORE.sequence));\n            const at = load(words, this.#findLink(hash));',
    'const at = load(words, this.#findLink(hash));\n            store(words, this.#reader, load(words, STORE.sequence));',
  ]),
  mutant(
    'takes the old block out before it puts the new one in',
    'reads a key while it is written',
    [
      'services/store/shared-store.js',
      'store(words, link, at);\n        this.#nextSequence();',
      'if (old !== 0)\n            store(words, link, load(words, old + BLOCK.next));\n        store(words, link, at);\n        this.#nextSequence();',
    ],
  ),
  mutant('publishes a block before it leads on', 'behind one whose block is used again', [
    'services/store/shared-store.js',
    'store(words, at + BLOCK.next, old === 0 ? 0 : load(words, old + BLOCK.next));\n        // Publishes the block: whoever loads this word finds the old one or all of the new one.\n        store(words, link, at);',
    'store(words, link, at);\n        store(words, at + BLOCK.next, old === 0 ? 0 : load(words, old + BLOCK.next));',
  ]),
  mutant('writes without the lock', 'two write one key', [
    'services/store/shared-store.js',
    'isHeld = this.#lock.tryAcquire();',
    'isHeld = true;',
  ]),
  mutant('trusts the books of one that died of its write', 'dies while it writes, and another', [
    'services/store/shared-store.js',
    'if (words[STORE.busy] !== 0)',
    'if (words[STORE.busy] < 0)',
  ]),
  mutant('frees at once what the dead had taken out', 'dies while it writes, and another', [
    'services/store/heap.js',
    'words[STORE.usedWords] += 1 << order;\n            else',
    'words[STORE.usedWords] += 1 << order;\n            else if (order < 0)',
  ]),
]
