/** The bag against a Set: whatever is done to both, they hold the same. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { Bag, type BagMember } from '../../src/base/bag.ts'

const RUNS = { numRuns: 500 }
const MEMBERS_MAX = 12

/** A member that says who it is in a counterexample. */
interface Named extends BagMember {
  readonly name: number
}

/** Members outside of any bag. */
function makeMembers(count: number): Named[] {
  return Array.from({ length: count }, (_, name) => ({ name, place: -1 }))
}

/** One of the first `count` members, by its name. */
const nameBelow = (count: number): fc.Arbitrary<number> => fc.nat({ max: count - 1 })

const operation = fc.record({
  kind: fc.constantFrom('add', 'delete'),
  name: nameBelow(MEMBERS_MAX),
})

/** How many members, and whom to remove at each step of an iteration over them. */
const removals = fc
  .integer({ min: 1, max: MEMBERS_MAX })
  .chain((count) =>
    fc.tuple(
      fc.constant(count),
      fc.array(fc.array(nameBelow(count), { maxLength: 3 }), { maxLength: count }),
    ),
  )

/**
 * Iterates over a bag of `count` members; at step i those of `steps[i]` are removed that `may` be.
 * Gives who was visited, and who is in the bag at the end.
 */
function visit(
  count: number,
  steps: readonly (readonly number[])[],
  may: (name: number, visited: readonly number[]) => boolean,
): { visited: number[]; left: number[] } {
  const bag = new Bag<Named>()
  const members = makeMembers(count)
  for (const member of members) bag.add(member)
  const left = new Set(members)
  const visited: number[] = []
  for (const member of bag) {
    assert.ok(left.has(member), `${member.name} is visited, and was removed`)
    const step = visited.length
    visited.push(member.name)
    for (const name of steps[step] ?? []) {
      const gone = members[name]!
      if (!may(name, visited)) continue
      assert.equal(bag.delete(gone), left.delete(gone))
    }
  }
  return { visited, left: [...left].map(({ name }) => name) }
}

describe('a bag', () => {
  test('it holds what a Set holds, whatever is added and removed', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const bag = new Bag<Named>()
        const model = new Set<Named>()
        const members = makeMembers(MEMBERS_MAX)
        for (const { kind, name } of operations) {
          const member = members[name]!
          if (kind === 'delete') assert.equal(bag.delete(member), model.delete(member))
          // To add one that is in it is not allowed.
          else if (!model.has(member)) {
            bag.add(member)
            model.add(member)
          }
          assert.equal(bag.size, model.size)
          for (const each of members) assert.equal(bag.has(each), model.has(each))
          const found = [...bag]
          assert.equal(found.length, model.size, 'iterating visits nobody twice')
          assert.deepEqual(new Set(found), model)
        }
      }),
      RUNS,
    )
  })

  test('whoever is removed can be added again, to another bag as well', () => {
    const [member] = makeMembers(1)
    const [first, second] = [new Bag<Named>(), new Bag<Named>()]
    first.add(member!)
    assert.equal(first.delete(member!), true)
    second.add(member!)
    assert.deepEqual([...first], [])
    assert.deepEqual([...second], [member])
  })

  test('removing visited members while iterating leaves out nobody and repeats nobody', () => {
    fc.assert(
      fc.property(removals, ([count, steps]) => {
        const { visited } = visit(count, steps, (name, already) => already.includes(name))
        assert.deepEqual(
          visited.toSorted((a, b) => a - b),
          Array.from({ length: count }, (_, name) => name),
        )
      }),
      RUNS,
    )
  })

  test('removing any members while iterating leaves out nobody who is still in', () => {
    fc.assert(
      fc.property(removals, ([count, steps]) => {
        const { visited, left } = visit(count, steps, () => true)
        for (const name of left) assert.ok(visited.includes(name), `${name} is left out`)
      }),
      RUNS,
    )
  })

  test('removing any members while iterating repeats nobody', () => {
    fc.assert(
      fc.property(removals, ([count, steps]) => {
        const { visited } = visit(count, steps, () => true)
        assert.equal(new Set(visited).size, visited.length, `visited: ${visited.join(', ')}`)
      }),
      RUNS,
    )
  })
})
