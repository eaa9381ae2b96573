/** What a thread under chaos knows of itself. Private to it. */

export const local = {
  /** The machine's own vectors, in the order of the ledger. */
  vectors: [] as readonly number[],
  /** A softirq that counts: the last raise must be followed by a run. */
  softirq: 20,
  softirqsRaised: 0,
  softirqsSeen: 0,
  /** Own vectors that this thread has handled. */
  handled: 0,
  /** Keeps something of what was made for the collector. */
  garbage: [] as unknown[],
}
