import { CartridgesError } from '../core/errors.js';
import type { Ggml } from '../native/ggml.js';
import type { GgmlBackend, GgmlBuffer } from '../native/handles.js';
import { koffi, viewMemory } from '../native/koffi.js';

/** Zeroed memory that native code, and every thread of the process, reaches by its address. The owner disposes it. */
export class NativeMemory {
  readonly address: bigint;
  readonly buffer: GgmlBuffer;
  readonly #ggml: Ggml;

  /** Throws `OUT_OF_MEMORY` naming `what`. */
  constructor(ggml: Ggml, backend: GgmlBackend, bytes: number, what: string) {
    const buffer = ggml.ggml_backend_alloc_buffer(backend, Math.max(bytes, 1));
    if (!buffer) {
      throw new CartridgesError('OUT_OF_MEMORY', `there are no ${Math.ceil(bytes / 2 ** 20)} MiB left for ${what}`, {
        hint: 'use fewer tokens a pack, a smaller cartridge or a smaller model',
      });
    }
    ggml.ggml_backend_buffer_clear(buffer, 0);
    this.#ggml = ggml;
    this.buffer = buffer;
    this.address = BigInt(ggml.ggml_backend_buffer_get_base(buffer));
  }

  dispose(): void {
    this.#ggml.ggml_backend_buffer_free(this.buffer);
  }
}

/** The f32 values at an address. */
export function floatsAt(address: bigint, count: number): Float32Array {
  return new Float32Array(viewMemory(address, count * Float32Array.BYTES_PER_ELEMENT));
}

/** The 32-bit integers at an address. */
export function integersAt(address: bigint, count: number): Int32Array {
  return new Int32Array(viewMemory(address, count * Int32Array.BYTES_PER_ELEMENT));
}

/** `count` zeros in JavaScript's own memory, which native code reaches by an address as long as somebody holds `values`. */
export function addressedFloats(count: number): { values: Float32Array; address: bigint } {
  // Small typed arrays may be moved; a buffer of its own is not.
  const values = new Float32Array(new ArrayBuffer(count * Float32Array.BYTES_PER_ELEMENT));
  return { values, address: BigInt(koffi.address(values.buffer)) };
}
