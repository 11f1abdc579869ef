import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { CartridgesError } from '../core/errors.js';
import type { Engine } from './engine.js';
import { enginePackageName, packageBinaries } from './engine-files.js';
import { DeviceType } from './ggml.js';
import type { GgmlBackend, GgmlBufferType, GgmlDevice } from './handles.js';
import { koffi } from './koffi.js';
import type { DeviceProperties } from './structs.js';

/** A device that ggml can compute on. Memory in bytes. */
export interface Device {
  handle: GgmlDevice;
  name: string;
  description: string;
  kind: 'cpu' | 'gpu' | 'accelerator';
  memoryFree: number;
  memoryTotal: number;
}

/** A package that holds a backend for GPUs. */
export interface GpuPackage {
  name: string;
  backend: 'cuda' | 'vulkan';
}

const GPU_BACKENDS: Readonly<Record<string, readonly GpuPackage['backend'][]>> = {
  linux: ['cuda', 'vulkan'],
  win32: ['cuda', 'vulkan'],
};

const setThreadsPrototype = koffi.proto('void cartridges_set_threads(void *backend, int threads)');
const extraBufferTypesPrototype = koffi.proto('void *cartridges_extra_buffer_types(void *device)');
let gpuPackagesLoaded = false;
/** What the engine said of GPU packages that it could not load. */
const gpuPackageProblems = new Map<string, string>();

/** Packages that would give this platform a GPU backend; `doctor` names the ones that are not installed. */
export function gpuPackages(): GpuPackage[] {
  const cpu = enginePackageName();
  return (GPU_BACKENDS[process.platform] ?? []).map((backend) => ({ name: `${cpu}-${backend}`, backend }));
}

/** Why the backend of an installed GPU package is not there; known once devices were listed. */
export function gpuPackageProblem(name: string): string | undefined {
  return gpuPackageProblems.get(name);
}

/** All devices, the CPU last. Backends of installed GPU packages are loaded on the first call. */
export function listDevices(engine: Engine): Device[] {
  loadGpuPackages(engine);
  const count = Number(engine.ggml.ggml_backend_dev_count());
  const devices = Array.from({ length: count }, (_, index) => describe(engine, engine.ggml.ggml_backend_dev_get(index)));
  return devices.sort((a, b) => Number(a.kind === 'cpu') - Number(b.kind === 'cpu'));
}

/**
 * The device of a setting: `auto` takes a GPU when there is one and else the CPU, `cpu` the CPU, anything else the device of
 * that name. Throws `INVALID_OPTION` that lists the names.
 */
export function chooseDevice(engine: Engine, setting = 'auto'): Device {
  const devices = listDevices(engine);
  const wanted = setting.toLowerCase();
  const found =
    wanted === 'auto'
      ? (devices.find((device) => device.kind === 'gpu') ?? devices.find((device) => device.kind === 'cpu'))
      : devices.find((device) => device.name.toLowerCase() === wanted || device.kind === wanted);
  if (found) return found;
  throw new CartridgesError('INVALID_OPTION', `there is no device ${setting}`, {
    hint: `devices here: ${devices.map((device) => device.name).join(', ')}; cartridges doctor says what is missing`,
  });
}

/** Threads for a setting: 0 means one for each processor that this process may use. More than that makes ggml crawl. */
export function resolveThreads(setting = 0): number {
  const available = availableParallelism();
  return setting > 0 ? Math.min(setting, available) : available;
}

/** A backend on a device; the caller frees it. `threads` matters on the CPU only. */
export function createBackend(engine: Engine, device: Device, threads: number): GgmlBackend {
  const backend = engine.ggml.ggml_backend_dev_init(device.handle, null);
  if (!backend)
    throw new CartridgesError('ENGINE_FAILURE', `the device ${device.name} could not be started: ${engine.log.take()}`);
  const setThreads = deviceProcedure(engine, device, 'ggml_backend_set_n_threads');
  if (setThreads) koffi.call(setThreads, setThreadsPrototype, backend, threads);
  return backend;
}

/** Buffer types beside the default one in which some weights are multiplied faster (CPU repacking, AMX); often none. */
export function extraBufferTypes(engine: Engine, device: Device): GgmlBufferType[] {
  const list = deviceProcedure(engine, device, 'ggml_backend_dev_get_extra_bufts');
  const types: GgmlBufferType[] = [];
  const address = list ? koffi.call(list, extraBufferTypesPrototype, device.handle) : null;
  for (let index = 0; address; index++) {
    const type = koffi.decode(address, index * 8, 'void *') as GgmlBufferType | null;
    if (!type) break;
    types.push(type);
  }
  return types;
}

/** The address of a function that only the device's backend has; null where it has not. */
export function deviceProcedure(engine: Engine, device: Device, name: string): bigint | null {
  return engine.ggml.ggml_backend_reg_get_proc_address(engine.ggml.ggml_backend_dev_backend_reg(device.handle), name);
}

function describe(engine: Engine, handle: GgmlDevice): Device {
  const properties = {} as DeviceProperties;
  engine.ggml.ggml_backend_dev_get_props(handle, properties);
  const isGpu = properties.type === DeviceType.GPU || properties.type === DeviceType.IGPU;
  return {
    handle,
    name: properties.name,
    description: properties.description,
    kind: properties.type === DeviceType.CPU ? 'cpu' : isGpu ? 'gpu' : 'accelerator',
    memoryFree: Number(properties.memory_free),
    memoryTotal: Number(properties.memory_total),
  };
}

/** A GPU package holds a backend library that joins the CPU package's; without a driver it loads as nothing, which is no error. */
function loadGpuPackages(engine: Engine): void {
  if (gpuPackagesLoaded) return;
  gpuPackagesLoaded = true;
  for (const { name } of gpuPackages()) {
    const folder = packageBinaries(name);
    if (folder === undefined || folder === engine.files.folder) continue;
    const library = readdirSync(folder).find((file) => /^(lib)?ggml-(cuda|vulkan)\.(so|dll)$/.test(file));
    if (library === undefined) continue;
    engine.log.take();
    const path = join(folder, library);
    // Of `load_backend: failed to load PATH: REASON` only the reason is news.
    if (!engine.ggml.ggml_backend_load(path)) gpuPackageProblems.set(name, engine.log.take().split(`${path}: `).at(-1)!);
  }
}
