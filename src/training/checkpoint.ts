import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { encodeFloats } from '../cartridge/float-conversion.js';
import { SafetensorsFile, type SafetensorsTensor, writeSafetensors } from '../cartridge/safetensors.js';
import { CartridgesError } from '../core/errors.js';
import { canonicalJson } from '../core/hashing.js';
import type { TrainingState } from './training-step.js';

/** Which pack comes next. */
export interface DataPosition {
  epoch: number;
  pack: number;
}

export function startOfData(): DataPosition {
  return { epoch: 0, pack: 0 };
}

/** Everything that a run needs to continue as if it had not stopped. */
export interface Checkpoint {
  state: TrainingState;
  position: DataPosition;
  stepsDone: number;
  supervisedTokens: number;
  best: BestRows | undefined;
}

/** The rows with the lowest validation divergence so far; their moments serve nobody. */
export interface BestRows extends Pick<TrainingState, 'keys' | 'values'> {
  stepsDone: number;
  validationKl: number;
}

/** Where checkpoints of one run go. */
export interface CheckpointStore {
  read(): Promise<Checkpoint | undefined>;
  write(checkpoint: Checkpoint): Promise<void>;
}

const FORMAT = 'cartridges-checkpoint-2';

/**
 * One checkpoint in a safetensors file, replaced atomically: a reader finds the last whole one. `identity` is everything that
 * must be the same for a resumed run to give the same result; another one is refused with `SETTINGS_CHANGED`.
 */
export class CheckpointFile implements CheckpointStore {
  readonly path: string;
  readonly #identity: Record<string, unknown>;

  constructor(path: string, identity: Record<string, unknown>) {
    this.path = path;
    this.#identity = identity;
  }

  async write(checkpoint: Checkpoint): Promise<void> {
    const { best, state, ...rest } = checkpoint;
    const tensors = toTensors('now', arraysOf(state));
    if (best) tensors.push(...toTensors('best', rowsOf(best)));
    const progress = {
      ...rest,
      layers: state.keys.length,
      adamStep: state.adam.step,
      ...(best && { best: { stepsDone: best.stepsDone, validationKl: best.validationKl } }),
    };
    await writeSafetensors(this.path, tensors, 'f32', {
      format: FORMAT,
      identity: canonicalJson(this.#identity),
      progress: JSON.stringify(progress),
    });
  }

  async read(): Promise<Checkpoint | undefined> {
    if (!existsSync(this.path)) return undefined;
    const file = await SafetensorsFile.open(this.path);
    try {
      this.#checkIdentity(file.metadata);
      const progress = JSON.parse(file.metadata['progress']!);
      const { layers, adamStep, best, position, stepsDone, supervisedTokens } = progress;
      return {
        position,
        stepsDone,
        supervisedTokens,
        state: await readState(file, layers, adamStep),
        best: best && {
          stepsDone: best.stepsDone,
          // JSON has no NaN: a run without validation writes null.
          validationKl: best.validationKl ?? Number.NaN,
          keys: await readArrays(file, 'best.keys', layers),
          values: await readArrays(file, 'best.values', layers),
        },
      };
    } finally {
      await file.close();
    }
  }

  async remove(): Promise<void> {
    await rm(this.path, { force: true });
  }

  #checkIdentity(metadata: Readonly<Record<string, string>>): void {
    if (metadata['format'] !== FORMAT) {
      throw new CartridgesError('INVALID_INPUT', `${this.path} is not a checkpoint of this version`, {
        hint: 'start without --resume',
      });
    }
    const changed = changedNames(JSON.parse(metadata['identity']!), this.#identity);
    if (changed.length > 0) throw settingsChanged(changed);
  }
}

/** In which names two identities differ. */
export function changedNames(stored: Record<string, unknown>, now: Record<string, unknown>): string[] {
  const names = [...new Set([...Object.keys(stored), ...Object.keys(now)])];
  return names.filter((name) => canonicalJson(stored[name] ?? null) !== canonicalJson(now[name] ?? null));
}

/** The error of a run that shall be continued as another one. */
export function settingsChanged(names: readonly string[]): CartridgesError {
  return new CartridgesError('SETTINGS_CHANGED', `the checkpoint was made with another ${names.join(', ')}`, {
    hint: 'resume with the settings of the first run, or start without --resume',
  });
}

type NamedArrays = readonly { name: string; arrays: readonly Float32Array[] }[];

function rowsOf({ keys, values }: Pick<TrainingState, 'keys' | 'values'>): NamedArrays {
  return [
    { name: 'keys', arrays: keys },
    { name: 'values', arrays: values },
  ];
}

/** Arrays of a state in the order in which they are stored. */
function arraysOf(state: TrainingState): NamedArrays {
  return [...rowsOf(state), { name: 'first', arrays: state.adam.first }, { name: 'second', arrays: state.adam.second }];
}

function toTensors(prefix: string, named: NamedArrays): SafetensorsTensor[] {
  return named.flatMap(({ name, arrays }) =>
    arrays.map((array, index) => ({
      name: `${prefix}.${name}.${index}`,
      shape: [array.length],
      bytes: encodeFloats(array, 'f32'),
    })),
  );
}

async function readState(file: SafetensorsFile, layers: number, adamStep: number): Promise<TrainingState> {
  return {
    keys: await readArrays(file, 'now.keys', layers),
    values: await readArrays(file, 'now.values', layers),
    adam: {
      step: adamStep,
      first: await readArrays(file, 'now.first', layers * 2),
      second: await readArrays(file, 'now.second', layers * 2),
    },
  };
}

async function readArrays(file: SafetensorsFile, name: string, count: number): Promise<Float32Array[]> {
  const arrays: Float32Array[] = [];
  for (let index = 0; index < count; index++) arrays.push(await file.readFloats(`${name}.${index}`));
  return arrays;
}
