// Each thread keeps a copy of the configuration, because reading a variable is as fast as it gets.

import { sharedFunction } from 'interprocessor'

let config

export const setConfig = sharedFunction('setConfig', (next) => {
  config = next
})

export const logLevel = sharedFunction('logLevel', () => config.logLevel)
