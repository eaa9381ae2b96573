/** Keys as people ask for them: the k-th most popular one 1/k^0.99 times as often as the first. */

const EXPONENT = 0.99

/** Gives a function that draws numbers from 0 up to, not including, `count`. */
export function zipf(count: number): () => number {
  const sums = new Float64Array(count)
  let sum = 0
  for (let k = 0; k < count; k++) sums[k] = sum += 1 / (k + 1) ** EXPONENT
  return () => {
    const at = Math.random() * sum
    let low = 0
    let high = count - 1
    while (low < high) {
      const middle = (low + high) >>> 1
      if (sums[middle]! < at) low = middle + 1
      else high = middle
    }
    return low
  }
}
