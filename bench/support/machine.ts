import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { ENGINE_VERSION } from '../../src/native/engine.js';
import { ENGINE_PACKAGE_VERSION } from '../../src/native/engine-files.js';

/** Instruction sets that decide how fast a matrix product can be, as Linux spells them (x86 and ARM). */
const TELLING_FLAGS = [
  ...['avx', 'f16c', 'fma', 'avx2', 'avx_vnni', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'avx512_fp16'],
  ...['amx_tile', 'amx_int8', 'amx_bf16', 'asimd', 'asimddp', 'fphp', 'i8mm', 'bf16', 'sve', 'sve2', 'sme'],
];

/** Where figures were measured: what a reader needs to compare them with his own. */
export interface Machine {
  cpu: string;
  cores: number;
  /** Those of {@link TELLING_FLAGS} that the CPU has; empty where the system does not list them in /proc/cpuinfo. */
  flags: string[];
  memoryBytes: number;
  system: string;
  node: string;
  engine: string;
  /** Mean number of running processes in the minute before the start; far above 0 means that the machine was shared. */
  loadBefore: number;
}

export function describeMachine(): Machine {
  const processors = cpus();
  return {
    cpu: processors[0]?.model ?? process.arch,
    cores: processors.length,
    flags: cpuFlags(),
    memoryBytes: totalmem(),
    system: `${process.platform} ${process.arch} ${release()}`,
    node: process.version,
    engine: `llama ${ENGINE_VERSION.llama}, ggml ${ENGINE_VERSION.ggml} (node-llama-cpp ${ENGINE_PACKAGE_VERSION})`,
    loadBefore: loadavg()[0]!,
  };
}

function cpuFlags(): string[] {
  try {
    const line = /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? '';
    const present = new Set(line.trim().split(/\s+/));
    return TELLING_FLAGS.filter((flag) => present.has(flag));
  } catch {
    return [];
  }
}
