import { CartridgesError } from '../../core/errors.js';
import { chooseDevice, type Device, deviceProcedure } from '../../native/devices.js';
import type { Engine } from '../../native/engine.js';
import type { GgmlThreadpool } from '../../native/handles.js';
import { koffi } from '../../native/koffi.js';
import { allowedProcessors } from '../../native/processors.js';
import type { ThreadpoolParams } from '../../native/structs.js';
import { decodeThread } from './decode-thread.js';

const freePrototype = koffi.proto('void cartridges_threadpool_free(void *pool)');

/**
 * Threads sleep between two graphs, on ggml's scale of 0 to 100 for how long they spin first. Waking them takes a twentieth of a
 * millisecond; spinning would take a processor from the event loop and from other contexts.
 */
const POLL = 0;

/** `GGML_MAX_N_THREADS`, and the processors that ggml's mask has room for. */
const MASK_PROCESSORS = 512;

/** Threads of ggml's CPU backend that stay between graphs. Without them every graph starts its threads anew. */
export class Threadpool {
  readonly handle: GgmlThreadpool;
  readonly #engine: Engine;
  readonly #device: Device;

  private constructor(engine: Engine, device: Device, handle: GgmlThreadpool) {
    this.#engine = engine;
    this.#device = device;
    this.handle = handle;
  }

  /** Starts `threads` - 1 threads, the decode thread is the last one. Rejects with `ENGINE_FAILURE` when they cannot be started. */
  static async start(engine: Engine, threads: number): Promise<Threadpool> {
    const device = chooseDevice(engine, 'cpu');
    const create = deviceProcedure(engine, device, 'ggml_threadpool_new');
    if (!create) throw new CartridgesError('ENGINE_FAILURE', 'the engine has no threads for the CPU');
    const params = { ...engine.ggml.ggml_threadpool_params_default(threads), ...placement(threads), poll: POLL };
    const { threadpool } = await decodeThread(engine).request('startThreadpool', { create, params });
    if (threadpool) return new Threadpool(engine, device, threadpool);
    throw new CartridgesError('ENGINE_FAILURE', `${threads} threads could not be started: ${engine.log.take()}`);
  }

  /** Ends the threads; nothing may use them any more. */
  free(): void {
    koffi.call(deviceProcedure(this.#engine, this.#device, 'ggml_threadpool_free'), freePrototype, this.handle);
  }
}

/**
 * Where there are as many threads as processors, each keeps one for itself, the decode thread the last. Otherwise Linux lets two of
 * them share one for some milliseconds now and then while another is idle, since the event loop and clients want a processor at
 * times too: for one user that was a tenth of the speed. Fewer threads go where there is room; that is said as well, because the
 * decode thread may have had a processor of its own before.
 */
function placement(threads: number): Partial<ThreadpoolParams> {
  const processors = allowedProcessors();
  if (!processors) return {};
  const cpumask = Array.from({ length: MASK_PROCESSORS }, () => false);
  for (const processor of processors) if (processor < MASK_PROCESSORS) cpumask[processor] = true;
  return { cpumask, strict_cpu: threads === processors.length };
}
