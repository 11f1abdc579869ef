import { CartridgesError } from '../core/errors.js';
import { chooseDevice, createBackend, type Device, resolveThreads } from '../native/devices.js';
import { type Engine, loadEngine } from '../native/engine.js';
import type { GgmlBackend, GgmlBufferType, GgmlScheduler } from '../native/handles.js';

/** Nodes that one graph may have; ggml aborts the process beyond the size that a graph was made with. */
export const MAX_GRAPH_NODES = 32_768;

export interface BackendOptions {
  /** `auto`, `cpu` or a device's name. */
  device?: string;
  /** Threads of the CPU backend; 0 takes all processors. */
  threads?: number;
}

/**
 * A device to compute on: its ggml backend, and the CPU behind it for operations that the device lacks.
 * Owns both; {@link Backend.dispose} frees them after every store and graph that was made on them.
 */
export class Backend {
  readonly engine: Engine;
  readonly device: Device;
  readonly threads: number;
  readonly handle: GgmlBackend;
  readonly bufferType: GgmlBufferType;
  readonly #cpu: GgmlBackend | undefined;
  readonly #lanes = new Set<GgmlBackend>();

  constructor(options: BackendOptions = {}) {
    this.engine = loadEngine();
    this.device = chooseDevice(this.engine, options.device);
    this.threads = resolveThreads(options.threads);
    this.handle = createBackend(this.engine, this.device, this.threads);
    this.bufferType = this.engine.ggml.ggml_backend_get_default_buffer_type(this.handle);
    this.#cpu =
      this.device.kind === 'cpu' ? undefined : createBackend(this.engine, chooseDevice(this.engine, 'cpu'), this.threads);
  }

  /**
   * Backends on the same device that compute side by side, each with a share of the threads. A graph on one thread has no
   * barriers, so on a processor several of them keep their speed where one graph on all threads loses it: when operations are
   * small, and when another program takes a core away. Other devices have one lane.
   */
  createLanes(limit: number): GgmlBackend[] {
    if (this.device.kind !== 'cpu') return [this.handle];
    const count = Math.min(limit, this.threads);
    const threadsPerLane = Math.floor(this.threads / count);
    const lanes = Array.from({ length: count }, () => createBackend(this.engine, this.device, threadsPerLane));
    for (const lane of lanes) this.#lanes.add(lane);
    return lanes;
  }

  /** Frees backends of {@link createLanes}, once nothing computes on them. */
  freeLanes(lanes: readonly GgmlBackend[]): void {
    for (const lane of lanes) if (this.#lanes.delete(lane)) this.engine.ggml.ggml_backend_free(lane);
  }

  /** A scheduler that sends what the device cannot do to the CPU; undefined on the CPU, which can do everything. */
  createScheduler(): GgmlScheduler | undefined {
    if (this.#cpu === undefined) return undefined;
    const backends = new BigUint64Array([this.handle, this.#cpu]);
    return this.engine.ggml.ggml_backend_sched_new(backends, null, 2, MAX_GRAPH_NODES, false, true);
  }

  /** Bytes that a scheduler holds for results, on the device and on the CPU behind it. */
  schedulerBytes(scheduler: GgmlScheduler): number {
    const size = (backend: GgmlBackend) => Number(this.engine.ggml.ggml_backend_sched_get_buffer_size(scheduler, backend));
    return size(this.handle) + (this.#cpu ? size(this.#cpu) : 0);
  }

  /** The error of a failed allocation, with what was asked and what the device has. */
  outOfMemory(what: string, bytes?: number): CartridgesError {
    const asked = bytes === undefined ? '' : ` (${Math.ceil(bytes / 2 ** 20)} MiB)`;
    return new CartridgesError('OUT_OF_MEMORY', `${this.device.name} has no memory left for ${what}${asked}`, {
      hint: 'use fewer tokens a pack, a smaller cartridge or a smaller model',
    });
  }

  dispose(): void {
    this.freeLanes([...this.#lanes]);
    this.engine.ggml.ggml_backend_free(this.handle);
    if (this.#cpu) this.engine.ggml.ggml_backend_free(this.#cpu);
  }
}
