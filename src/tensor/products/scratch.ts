import type { GgmlThread } from '../ggml-thread.js';
import { NativeMemory } from '../native-memory.js';

/** Memory for what lies between the operations of a kernel, shared by all kernels of one thread: only one of them runs. */
export class Scratch {
  readonly #thread: GgmlThread;
  #bytes = 0;
  #memory: { bytes: number; native: NativeMemory } | undefined;

  constructor(thread: GgmlThread) {
    this.#thread = thread;
  }

  get byteLength(): number {
    return this.#bytes;
  }

  /** Makes sure that a kernel which needs `bytes` can run. */
  reserve(bytes: number): void {
    this.#bytes = Math.max(this.#bytes, bytes);
  }

  get address(): bigint {
    if (this.#memory?.bytes !== this.#bytes) {
      this.#memory?.native.dispose();
      const { ggml, backend } = this.#thread;
      this.#memory = { bytes: this.#bytes, native: new NativeMemory(ggml, backend, this.#bytes, 'the products of a replica') };
    }
    return this.#memory.native.address;
  }

  dispose(): void {
    this.#memory?.native.dispose();
    this.#memory = undefined;
  }
}
