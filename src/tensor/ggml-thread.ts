import type { Ggml } from '../native/ggml.js';
import type { GgmlBackend, GgmlBuffer } from '../native/handles.js';

/** What one thread computes small graphs with. */
export interface GgmlThread {
  ggml: Ggml;
  /** A backend of the CPU with one thread, that no other thread uses. */
  backend: GgmlBackend;
  /** Any buffer of the CPU: tensors that lie anywhere in the process's memory say that they lie in it. */
  buffer: GgmlBuffer;
}
