/** Everything that can be thrown. */

import { IpiError, sharedFunction, thisMachine } from '../../src/index.ts'

/** An error of the application's own. */
export class PaymentError extends Error {
  override readonly name = 'PaymentError'
  readonly amount: number
  readonly details = { currency: 'EUR', tried: new Date(0), by: new Map([['card', 2]]) }
  /** Cannot be cloned: stays behind. */
  readonly retry = (): string => 'again'
  readonly lock = new WeakMap()

  constructor(amount: number) {
    super(`payment of ${amount} refused`)
    this.amount = amount
  }
}

class Weird extends Error {
  override get message(): string {
    throw new Error('no message')
  }
}

/** Makes each of them, by name. */
export const THROWN: Record<string, () => unknown> = {
  TypeError: () => new TypeError('a type error'),
  RangeError: () => new RangeError('a range error'),
  SyntaxError: () => new SyntaxError('a syntax error'),
  Error: () => new Error('a plain error'),
  PaymentError: () => new PaymentError(12),
  'system error': () => Object.assign(new Error('no such file'), { code: 'ENOENT', errno: -2 }),
  AbortError: () => new DOMException('aborted', 'AbortError'),
  renamed: () => Object.assign(new Error('renamed'), { name: 'Renamed' }),
  large: () => new Error('large '.repeat(2000)),
  'no stack': () => Object.assign(new Error('no stack'), { stack: undefined }),
  unreadable: () => new Weird(),
  frozen: () => Object.freeze(new Error('frozen')),
  'null prototype field': () => Object.assign(new Error('field'), { info: Object.create(null) }),
  undefined: () => undefined,
  null: () => null,
  number: () => 42,
  string: () => 'just a string',
  object: () => ({ code: 7, nested: [1, { two: 2 }] }),
  symbol: () => Symbol('thrown'),
  function: () => function thrown() {},
  bigint: () => 10n ** 30n,
  cause: () => new Error('outer', { cause: new RangeError('middle', { cause: 'innermost' }) }),
  'cause is itself': () => {
    const error = new Error('its own cause')
    error.cause = error
    return error
  },
  'long chain': () => {
    let error = new Error('0')
    for (let i = 1; i < 30; i++) error = new Error(String(i), { cause: error })
    return error
  },
  aggregate: () =>
    new AggregateError([new TypeError('first'), 'second', new PaymentError(3)], 'several'),
}

/** Throws one of them, a few calls deep. */
export const throwOne = sharedFunction('machine.throwOne', (which: string) => {
  deepInTheRemoteCode(which)
})

function deepInTheRemoteCode(which: string): never {
  throw THROWN[which]!()
}

/** Throws the library's own error, with facts of the application's. */
export const throwIpiError = sharedFunction(
  'machine.throwIpiError',
  ({ code, facts }: { code: never; facts: object }) => {
    throw new IpiError(code, 'thrown by the application', facts)
  },
)

/** Lets the library throw: an error that is the function's, and not that of its call. */
export const sendToNobody = sharedFunction('machine.sendToNobody', () => {
  thisMachine().sendIpiMask([3], 0x50)
})

/** A getter of the result throws while it is copied. */
export const returnsTrap = sharedFunction('machine.returnsTrap', () =>
  Object.defineProperty({}, 'trap', {
    enumerable: true,
    get: () => {
      throw new RangeError('a trap in the result')
    },
  }),
)

/** Ends this thread by an error that nobody catches. */
export const endWithError = sharedFunction('machine.endWithError', () => {
  setImmediate(() => {
    throw Object.assign(new RangeError('the end of this thread'), { code: 'E_END' })
  })
})
