/** What tasks are made of that do not look up. */

/** Nothing in it but arithmetic: V8 makes of it a loop without calls. */
export function compute(rounds: number): number {
  let x = 1
  for (let i = 0; i < rounds; i++) x = (x * 3 + i) | 0
  return x
}

/** All of them. */
export function* numbers(): Generator<number> {
  for (let i = 0; ; i++) yield i
}
