/**
 * Deliberate faults in copies of the real code, each with the scenarios that must find it. The text is
 * that of the compiled file; where it is not found, the mutant is out of date and the run fails.
 */

/** One fault. */
export interface Mutant {
  readonly name: string
  /** Below build/src. */
  readonly file: string
  readonly from: string
  readonly to: string
  /** Names of scenarios, or parts of them. */
  readonly found: string
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'sleeps without a look at what was posted',
    file: 'hardware/core.js',
    from: 'if (this.attentionPending)\n            this.#softAttention |= this.apic.harvest() & SOFT_ATTENTION;\n        if (this.#canTake())',
    to: 'if (this.#canTake())',
    found: 'halts while an interrupt comes',
  },
  {
    name: 'parks without a look at what was posted',
    file: 'kernel/idle.js',
    from: 'if (core.attentionPending || this.#cpu.needResched)\n            this.#turn();',
    to: '',
    found: 'parks while an interrupt comes',
  },
  {
    name: 'says that it is parked after it has looked',
    file: 'kernel/idle.js',
    from: 'core.state = CPU_STATE.parked;\n        this.#doorbell.arm();\n        if (core.attentionPending || this.#cpu.needResched)\n            this.#turn();',
    to: 'const late = core.attentionPending;\n        core.state = CPU_STATE.parked;\n        this.#doorbell.arm();\n        if (late)\n            this.#turn();',
    found: 'parks while an interrupt comes',
  },
  {
    name: 'takes the requests before the attention that announces them',
    file: 'hardware/apic/receiver.js',
    from: 'const attention = this.#descriptor.takeAttention();\n        if ((attention & ATTENTION.single) !== 0) {\n            this.acceptFixed(attention >>> ATTENTION_VECTOR_SHIFT, false);\n        }\n        for (let rest = attention & POSTED_WORDS; rest !== 0; rest &= rest - 1) {\n            const word = lowestBit(rest);\n            const posted = this.#descriptor.takePosted(word);',
    to: 'const early = [3, 5].map((word) => this.#descriptor.takePosted(word));\n        const attention = this.#descriptor.takeAttention();\n        if ((attention & ATTENTION.single) !== 0) {\n            this.acceptFixed(attention >>> ATTENTION_VECTOR_SHIFT, false);\n        }\n        for (const word of [3, 5]) {\n            const posted = early[word === 3 ? 0 : 1];',
    found: 'two post to one who',
  },
  {
    name: 'overwrites a vector that is posted already',
    file: 'hardware/descriptor.js',
    from: 'if (compareExchange(this.#words, this.#page + CPU.attention, 0, single) !== 0)\n            return false;',
    to: 'store(this.#words, this.#page + CPU.attention, single);',
    found: 'two post to one who',
  },
  {
    name: 'interrupts before the request is in the queue',
    file: 'kernel/call-queue.js',
    from: 'const pushed = pushSlot(memory, memory.cpuPage(target) + CPU.callQueue, batch.slots[0]);',
    to: "this.#senders.sendIpiCpu(target, VECTOR.CALL_FUNCTION_VECTOR);\n            const pushed = pushSlot(memory, memory.cpuPage(target) + CPU.callQueue, batch.slots[0]);\n            if (pushed === 'first')\n                return ALL_ONLINE;",
    found: 'one blocks until an idle one has answered (queue)',
  },
  {
    name: 'lets go of the record before everybody has copied it',
    file: 'kernel/call-data.js',
    from: 'if (!this.#allSet(waitFor, members, uses, batch.wait))\n                    return false;',
    to: '',
    found: '(callData)',
  },
  {
    name: 'uses a slot again before its target has taken it',
    file: 'kernel/call-book.js',
    from: 'return (state === REQUEST_STATE.done || state',
    to: 'return (state === REQUEST_STATE.queued || state === REQUEST_STATE.done || state',
    found: 'the slot of a request that nobody waits for',
  },
  {
    name: 'looks whether the queue is empty, and pushes after that',
    file: 'kernel/call-queue.js',
    from: 'const pushed = pushSlot(memory, memory.cpuPage(target) + CPU.callQueue, batch.slots[0]);',
    to: "const before = memory.readCpu(target, CPU.callQueue);\n            const found = pushSlot(memory, memory.cpuPage(target) + CPU.callQueue, batch.slots[0]);\n            const pushed = found === 'closed' ? found : before === 0 ? 'first' : 'queued';",
    found: 'two ask one who idles',
  },
  {
    name: 'clears the mark after it has looked for work',
    file: 'kernel/resched.js',
    from: 'this.#cpu.clearThreadFlags(TIF.NEED_RESCHED);\n        const flags = this.#cpu.localIrqSave();',
    to: 'this.onSchedule();\n        this.#cpu.clearThreadFlags(TIF.NEED_RESCHED);\n        return;\n        const flags = this.#cpu.localIrqSave();',
    found: 'is marked for rescheduling again',
  },
  {
    name: 'lets an INIT leave an earlier start-up latched',
    file: 'hardware/descriptor.js',
    from: 'store(this.#words, this.#page + CPU.initSipi, INIT_SIPI.init);',
    to: 'or(this.#words, this.#page + CPU.initSipi, INIT_SIPI.init);',
    found: 'a start-up, an INIT',
  },
  {
    name: 'counts who has acknowledged an earlier step of the round',
    file: 'kernel/stop-machine.js',
    from: 'if (memory.readCpu(cpu, CPU.stopAck) === word)',
    to: 'if (memory.readCpu(cpu, CPU.stopAck) >>> STATE_BITS === word >>> STATE_BITS)',
    found: 'two rounds of standing still',
  },
  {
    name: 'runs its own part of a call with interrupts on',
    file: 'kernel/smp.js',
    from: '#runLocal(plan) {\n        const flags = this.#cpu.localIrqSave();',
    to: '#runLocal(plan) {\n        const flags = false;',
    found: 'runs its own part of a call',
  },
  {
    name: 'does not look at its queue when it hears of a burial',
    file: 'kernel/kernel.js',
    from: 'if (memory.readCpu(id, CPU.callQueue) > 0)\n            apic.raise(VECTOR.CALL_FUNCTION_VECTOR);',
    to: '',
    found: 'dies while it asks',
  },
  {
    name: 'never acknowledges a call interrupt',
    file: 'kernel/smp-interrupts.js',
    from: 'callFunctionInterrupt: () => {\n            apic.eoi();',
    to: 'callFunctionInterrupt: () => {',
    found: 'one blocks until an idle one has answered (queue)',
  },
]
