// TypeScript, bundled with esbuild: one entry point for the application and one for its workers, and
// everything else in them. The folder of the bundle needs no node_modules.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const folder = mkdtempSync(join(tmpdir(), 'interprocessor-esbuild-'))
try {
  await build({
    absWorkingDir: fileURLToPath(new URL('.', import.meta.url)),
    entryPoints: ['src/app.ts', 'src/worker.ts'],
    outdir: folder,
    bundle: true,
    // What both need is there once, and what is loaded later stays a file of its own.
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    minify: true,
    // Errors cross between threads by the names of their classes.
    keepNames: true,
  })
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
  const { status } = spawnSync(process.execPath, ['app.js'], { cwd: folder, stdio: 'inherit' })
  process.exitCode = status ?? 1
} finally {
  rmSync(folder, { recursive: true })
}
