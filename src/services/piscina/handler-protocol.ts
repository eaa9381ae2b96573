/** What a pool asks of its threads: the names of the shared functions, and what they are given. */

/** The functions of handler.ts. */
export const HANDLER_FUNCTIONS = {
  load: 'interprocessor.piscina.load',
  run: 'interprocessor.piscina.run',
  runNamed: 'interprocessor.piscina.runNamed',
} as const

/** What a new thread gets ready. */
export interface LoadRequest {
  /** null: every task names its own. */
  readonly filename: string | null
  readonly name: string
  readonly niceIncrement: number
}

/** A task for another handler than the pool's own. */
export interface NamedTask {
  readonly task: unknown
  readonly filename: string
  readonly name: string
}
