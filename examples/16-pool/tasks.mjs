// Every thread imports this module, and so every CPU can run these.

import { sharedFunction, thisMachine, thisTask } from 'interprocessor'

export const countPrimes = sharedFunction('countPrimes', ({ below, words }) => {
  const { cpu } = thisMachine()
  Atomics.store(words, 0, 1) // it runs
  let primes = 0
  for (let n = 2; n < below; n++) {
    cpu.poll() // a safepoint: here urgent tasks run, and here it ends if it is cancelled
    let isPrime = true
    for (let d = 2; d * d <= n && isPrime; d++) isPrime = n % d !== 0
    if (isPrime) primes++
  }
  return primes
})

export const hasBegun = sharedFunction('hasBegun', (words) => Atomics.load(words, 0) === 1)

export const steps = sharedFunction('steps', (count) => {
  for (let i = 1; i <= count; i++) thisTask().report(`step ${i}`)
  return 'done'
})

export const runaway = sharedFunction('runaway', () => {
  for (;;);
})

export const greet = (name) => `hello ${name}`
