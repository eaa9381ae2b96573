/** A module that does not come to its end until an NMI has come: for forced-states.ts. */

import { deadline, isOver } from './forced-states.ts'
import { WORD } from './machine-board.ts'
import { board } from './machine-tasks.ts'

const check = deadline()
board().add(WORD.entered)
while (!isOver()) check()
