import { createBackend } from '../../src/native/devices.js';
import { Backend } from '../../src/tensor/backend.js';
import type { GgmlThread } from '../../src/tensor/ggml-thread.js';
import { NativeMemory } from '../../src/tensor/native-memory.js';

/** What kernels run in, one thread of ggml, and `bytes` of memory from `address` on for them to work on. */
export interface KernelThread {
  backend: Backend;
  thread: GgmlThread;
  address: bigint;
  dispose(): void;
}

export function openKernelThread(bytes: number): KernelThread {
  const backend = new Backend({ device: 'cpu', threads: 1 });
  const { ggml } = backend.engine;
  const memory = new NativeMemory(ggml, backend.handle, bytes, 'a test');
  const thread = { ggml, backend: createBackend(backend.engine, backend.device, 1), buffer: memory.buffer };
  const dispose = () => {
    ggml.ggml_backend_free(thread.backend);
    memory.dispose();
    backend.dispose();
  };
  return { backend, thread, address: memory.address, dispose };
}
