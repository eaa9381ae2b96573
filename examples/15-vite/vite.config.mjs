// For a program that runs on Node: Vite calls that SSR.

import { defineConfig } from 'vite'

// oxlint-disable-next-line import/no-default-export -- Vite wants it.
export default defineConfig({
  build: {
    ssr: true,
    target: 'node20',
    rollupOptions: {
      // The worker is an entry point of its own, and has its own name: the application asks for it.
      input: { app: 'src/app.ts', worker: 'src/worker.ts' },
      output: { entryFileNames: '[name].js' },
    },
  },
  // Everything into the bundle. Without this the packages stay outside, which works as well.
  ssr: { noExternal: true },
})
