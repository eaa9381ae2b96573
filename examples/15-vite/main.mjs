// TypeScript, built with Vite: the same program as in the example with esbuild, and vite.config.mjs.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'vite'

const folder = mkdtempSync(join(tmpdir(), 'interprocessor-vite-'))
try {
  await build({
    root: fileURLToPath(new URL('.', import.meta.url)),
    logLevel: 'warn',
    build: { outDir: folder, emptyOutDir: true },
  })
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
  const { status } = spawnSync(process.execPath, ['app.js'], { cwd: folder, stdio: 'inherit' })
  process.exitCode = status ?? 1
} finally {
  rmSync(folder, { recursive: true })
}
