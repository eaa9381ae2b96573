/** What `isWorkerThread` and `workerData` say in this thread. */

/** Set by the script of a Piscina's thread, before any handler is loaded. */
export const threadRole: { isWorkerThread: boolean; workerData: unknown } = {
  isWorkerThread: false,
  workerData: undefined,
}
