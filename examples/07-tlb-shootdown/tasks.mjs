// Every CPU translates pages through one page table in shared memory, and keeps what it has found.

import { sharedFunction, thisMachine } from 'interprocessor'

let pageTable

export const usePageTable = sharedFunction('usePageTable', (table) => {
  pageTable = table
})

/** The frame behind a page: this CPU's copy, or else what the table says now. */
export const translate = sharedFunction('translate', (page) =>
  thisMachine()
    .addressSpace('example')
    .translate(page, (address) => Atomics.load(pageTable, address)),
)
