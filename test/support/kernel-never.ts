/** An entry module that never finishes loading. */

Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60_000)
