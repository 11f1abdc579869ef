import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { cacheFolder, readEnvironment } from '../core/environment.js';
import { toCartridgesError } from '../core/errors.js';
import { packageVersion } from '../core/package.js';
import { listModels } from '../models/hub/resolve-model.js';
import { type GpuPackage, gpuPackageProblem, gpuPackages, listDevices } from '../native/devices.js';
import { type Engine, loadEngine } from '../native/engine.js';
import { ENGINE_PACKAGE_VERSION, enginePackageName, packageBinaries } from '../native/engine-files.js';
import { Backend } from '../tensor/backend.js';
import { type ProductSpeed, profileDevice } from '../tensor/device-profile.js';
import type { ProviderSpeed } from '../tensor/products/product-trial.js';
import { profileProducts } from '../tensor/products/profile-products.js';

export interface DoctorReport {
  version: string;
  node: string;
  machine: { processor: string; processors: number; memoryBytes: number; freeMemoryBytes: number };
  engine: { folder: string; llama: string; ggml: string } | undefined;
  devices: { name: string; description: string; kind: string; memoryBytes: number; freeMemoryBytes: number }[];
  /** Matrix products with a frozen weight of each type on the device that `auto` takes. */
  products: { chosen: string; measured: ProductSpeed[] } | undefined;
  /** Products on one core with the libraries that the replica step can take, and oneDNN's version when it was found. */
  training: { oneDnn: string | undefined; measured: ProviderSpeed[] } | undefined;
  models: string[];
  folders: { cache: string; hub: string };
  /** What is missing and the command that gets it; empty when nothing is. */
  advice: { problem: string; command: string; required: boolean }[];
}

/** A product of the size that small models have. */
const MEASURED_INPUTS = 576;
const MEASURED_OUTPUTS = 1_536;

/** How a system gets oneDNN. A wheel is a zip file; its library needs nothing but libgomp. */
const ONEDNN_COMMANDS: Readonly<Record<string, string>> = {
  linux:
    'apt install libdnnl3 || apt install libdnnl2 (Debian, Ubuntu), dnf install onednn (Fedora), or set CARTRIDGES_ONEDNN to libdnnl.so.3 of: pip download --no-deps onednn-cpu-gomp',
  win32: 'set CARTRIDGES_ONEDNN to dnnl.dll of: pip download --no-deps onednn-cpu-vcomp',
};

/** What the backends for GPUs are for, and what they need beside their package. */
const GPU_NEEDS: Readonly<Record<GpuPackage['backend'], { gpu: string; install: string }>> = {
  cuda: {
    gpu: 'an NVIDIA GPU (CUDA 13 runtime and driver)',
    install:
      "install the GPU's driver and the runtime of CUDA 13 (libcudart and libcublas), where the system looks for libraries",
  },
  vulkan: { gpu: 'a GPU with a Vulkan driver', install: "install the GPU's Vulkan driver and the Vulkan loader" },
};

/** Looks at everything that this package needs, and says for what is missing how to get it. It never throws for a missing part. */
export async function examine(options: { device?: string; threads?: number } = {}): Promise<DoctorReport> {
  const advice: DoctorReport['advice'] = [];
  const engine = tryLoadEngine(advice);
  const environment = readEnvironment();
  adviseGpuPackages(advice, engine);
  return {
    version: packageVersion(),
    node: process.version,
    machine: {
      processor: cpus()[0]?.model ?? 'unknown',
      processors: availableParallelism(),
      memoryBytes: totalmem(),
      freeMemoryBytes: freemem(),
    },
    engine: engine && { folder: engine.files.folder, ...engine.versions },
    devices: engine
      ? listDevices(engine).map(({ name, description, kind, memoryTotal, memoryFree }) => {
          return { name, description, kind, memoryBytes: memoryTotal, freeMemoryBytes: memoryFree };
        })
      : [],
    products: engine && (await measureProducts(options)),
    training: engine && (await examineTraining(engine, advice)),
    models: (await listModels().catch(() => [])).map(({ name }) => name),
    folders: { cache: cacheFolder(), hub: environment.hubCacheFolder },
    advice,
  };
}

function tryLoadEngine(advice: DoctorReport['advice']): Engine | undefined {
  try {
    return loadEngine();
  } catch (thrown) {
    const error = toCartridgesError(thrown);
    const command = error.hint ?? `npm install --no-save ${enginePackageName()}@${ENGINE_PACKAGE_VERSION}`;
    advice.push({ problem: error.message, command, required: true });
    return undefined;
  }
}

function adviseGpuPackages(advice: DoctorReport['advice'], engine: Engine | undefined): void {
  if (!engine || listDevices(engine).some(({ kind }) => kind === 'gpu')) return;
  for (const { name, backend } of gpuPackages()) {
    const { gpu, install } = GPU_NEEDS[backend];
    const problem = gpuPackageProblem(name);
    if (packageBinaries(name) === undefined) {
      const command = `npm install --no-save ${name}@${ENGINE_PACKAGE_VERSION}`;
      advice.push({ problem: `no GPU is used: for ${gpu}`, command, required: false });
    } else {
      const reason = problem === undefined ? 'its driver was not found' : `it could not be loaded: ${problem}`;
      advice.push({ problem: `${name} is installed, but ${reason}`, command: install, required: false });
    }
  }
}

/** With oneDNN a step took two fifths of the graph step's processor time (SmolLM2-135M, AVX2), so it is worth an install. */
async function examineTraining(engine: Engine, advice: DoctorReport['advice']): Promise<DoctorReport['training']> {
  const { oneDnn, problem, measured } = await profileProducts(engine, { inputs: MEASURED_INPUTS, outputs: MEASURED_OUTPUTS });
  const command = ONEDNN_COMMANDS[process.platform];
  if (command !== undefined && process.arch === 'x64' && (oneDnn === undefined || problem !== undefined)) {
    const reason = problem === undefined ? 'it was not found' : `it is not used: ${problem}`;
    advice.push({ problem: `oneDNN makes training on this processor faster; ${reason}`, command, required: false });
  }
  return { oneDnn, measured };
}

async function measureProducts(options: { device?: string; threads?: number }): Promise<DoctorReport['products']> {
  const backend = new Backend(options);
  try {
    const { chosen, measured } = await profileDevice(backend, { inputs: MEASURED_INPUTS, outputs: MEASURED_OUTPUTS });
    return { chosen: chosen.name, measured };
  } finally {
    backend.dispose();
  }
}
