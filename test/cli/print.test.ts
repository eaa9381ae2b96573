// Colours only where a terminal shows them, and columns that stay in their places.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { formatMicroseconds, Printer, shorten, type Column } from '../../src/cli/print.ts'

/** Collects what is printed. */
function paper(hasColors?: () => boolean): { printer: Printer; text: () => string } {
  let text = ''
  const output = { write: (part: string) => (text += part), ...(hasColors ? { hasColors } : {}) }
  return { printer: new Printer(output), text: () => text }
}

test('a stream that is no terminal, or one without colours, gets none', () => {
  for (const { printer, text } of [paper(), paper(() => false)]) {
    printer.step(1, 'Title', 'about')
    printer.verified('true')
    assert.equal(text(), '\n1. Title\n   about\n   ok  true\n')
  }
})

test('a terminal with colours gets them, around words and not around spaces', () => {
  const { printer, text } = paper(() => true)
  printer.verified('true')
  assert.equal(text(), '   \u001B[32mok\u001B[39m  true\n')
})

test('columns keep their width, whatever a user calls a function', () => {
  const columns: readonly Column[] = [
    { title: 'left', width: 6, align: 'left' },
    { title: 'right', width: 5, align: 'right' },
  ]
  const { printer, text } = paper()
  printer.header(columns)
  printer.row(columns, ['ab', '1'])
  printer.row(columns, ['much too long', '12345'])
  assert.equal(text(), '   left    right\n   ab          1\n   much …  12345\n')
})

test('long and broken text is shortened to one line', () => {
  assert.equal(shorten('a\n  b', 10), 'a b')
  assert.equal(shorten('abcdef', 6), 'abcdef')
  assert.equal(shorten('abcdefg', 6), 'abcde…')
})

test('microseconds are as exact as they are worth', () => {
  const texts = [0.04, 7.35, 12.6, 412, 9120.4].map(formatMicroseconds)
  assert.deepEqual(texts, ['0.0', '7.3', '13', '412', '9,120'])
})
