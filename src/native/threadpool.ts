import { CartridgesError } from '../core/errors.js';
import { chooseDevice, type Device, deviceProcedure } from './devices.js';
import type { Engine } from './engine.js';
import type { GgmlThreadpool } from './handles.js';
import { koffi } from './koffi.js';
import './structs.js';

const newPrototype = koffi.proto('void *cartridges_threadpool_new(ggml_threadpool_params *params)');
const freePrototype = koffi.proto('void cartridges_threadpool_free(void *pool)');

/**
 * Threads sleep between two graphs, on ggml's scale of 0 to 100 for how long they spin first. Waking them takes a twentieth of a
 * millisecond; spinning would take a processor from the event loop and from other contexts.
 */
const POLL = 0;

/** Threads of ggml's CPU backend that stay between graphs. Without them every graph starts its threads anew. */
export class Threadpool {
  readonly #engine: Engine;
  readonly #device: Device;
  readonly handle: GgmlThreadpool;

  /** Starts `threads` - 1 threads, the caller of a graph is the last one. Throws `ENGINE_FAILURE` when they cannot be started. */
  constructor(engine: Engine, threads: number) {
    const device = chooseDevice(engine, 'cpu');
    const create = deviceProcedure(engine, device, 'ggml_threadpool_new');
    if (!create) throw new CartridgesError('ENGINE_FAILURE', 'the engine has no threads for the CPU');
    const params = { ...engine.ggml.ggml_threadpool_params_default(threads), poll: POLL };
    const handle = koffi.call(create, newPrototype, params) as GgmlThreadpool | null;
    if (!handle) throw new CartridgesError('ENGINE_FAILURE', `${threads} threads could not be started: ${engine.log.take()}`);
    this.#engine = engine;
    this.#device = device;
    this.handle = handle;
  }

  /** Ends the threads; nothing may use them any more. */
  free(): void {
    koffi.call(deviceProcedure(this.#engine, this.#device, 'ggml_threadpool_free'), freePrototype, this.handle);
  }
}
