/** What the commands print: aligned columns, and colours only where a terminal shows them. */

import { styleText } from 'node:util'

/** A style by what it means. */
type Style = 'title' | 'heading' | 'good' | 'faint'

const STYLES = {
  title: 'bold',
  heading: 'cyan',
  good: 'green',
  faint: 'dim',
} as const satisfies Record<Style, Parameters<typeof styleText>[0]>

/** The part of a stream that is needed here; `hasColors` is there if it is a terminal. */
export interface Output {
  write(text: string): unknown
  hasColors?(): boolean
}

/** A column of a table: numbers stand on the right, words on the left. */
export interface Column {
  readonly title: string
  readonly width: number
  readonly align: 'left' | 'right'
}

/** Writes lines to one stream. */
export class Printer {
  readonly #output: Output
  readonly #colours: boolean

  constructor(output: Output) {
    this.#output = output
    // Asked of this stream: styleText would ask process.stdout, or on older releases of 20 nobody.
    this.#colours = output.hasColors?.() ?? false
  }

  /** Colours a text, or leaves it as it is. */
  style(style: Style, text: string): string {
    return this.#colours ? styleText(STYLES[style], text, { validateStream: false }) : text
  }

  /** Writes one line. */
  line(text = ''): void {
    this.#output.write(`${text}\n`)
  }

  /** Writes lines one step to the right. */
  indented(text: string): void {
    for (const line of text.split('\n')) this.line(`   ${line}`)
  }

  /** Writes the number and title of a step, with what it is about in the line below. */
  step(number: number, title: string, about: string): void {
    this.line()
    this.line(this.style('heading', `${number}. ${title}`))
    this.indented(this.style('faint', about))
  }

  /** Writes the titles of a table. */
  header(columns: readonly Column[]): void {
    this.indented(
      this.style(
        'faint',
        align(
          columns,
          columns.map(({ title }) => title),
        ),
      ),
    )
  }

  /** Writes one row of a table. */
  row(columns: readonly Column[], cells: readonly string[]): void {
    this.indented(align(columns, cells))
  }

  /** Writes what was verified. */
  verified(text: string): void {
    this.indented(`${this.style('good', 'ok')}  ${text}`)
  }
}

function align(columns: readonly Column[], cells: readonly string[]): string {
  const padded = columns.map(({ width, align: side }, index) => {
    const cell = shorten(cells[index] ?? '', width)
    return side === 'right' ? cell.padStart(width) : cell.padEnd(width)
  })
  return padded.join('  ').trimEnd()
}

/** At most `width` characters of a text, on one line. */
export function shorten(text: string, width: number): string {
  const line = text.replaceAll(/\s+/g, ' ')
  return line.length <= width ? line : `${line.slice(0, width - 1)}…`
}

/** Microseconds as people read them: `7.4`, `412`, `9,120`. */
export function formatMicroseconds(us: number): string {
  return us < 10 ? us.toFixed(1) : Math.round(us).toLocaleString('en-US')
}

/** A number of 32 bits in hexadecimal, as register dumps have it. */
export function formatWord(word: number): string {
  return (word >>> 0).toString(16).padStart(8, '0')
}
