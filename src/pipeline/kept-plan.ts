import { readFile, rm } from 'node:fs/promises';
import { writeJsonAtomic } from '../core/files.js';
import { changedNames, settingsChanged } from '../training/checkpoint.js';
import type { PackShape } from '../training/pack.js';
import type { LoopPlan } from './loop-plan.js';

/** What a run that is continued keeps: neither the speed nor the memory of today may change it. */
export interface KeptPlan extends LoopPlan {
  shape: PackShape;
}

/** The plan of a run on disk, with the `identity` of the run: a plan that was made for another one is not taken. */
export class KeptPlanFile {
  readonly #path: string;
  readonly #identity: Record<string, unknown>;

  constructor(path: string, identity: Record<string, unknown>) {
    this.#path = path;
    this.#identity = identity;
  }

  /**
   * The plan of this run, if there is one. Throws `SETTINGS_CHANGED` for that of another run which has a checkpoint; without one
   * there is nothing of it to continue.
   */
  async read(hasCheckpoint: boolean): Promise<KeptPlan | undefined> {
    const text = await readFile(this.#path, 'utf8').catch(() => undefined);
    if (text === undefined) return undefined;
    const { identity = {}, ...plan } = JSON.parse(text);
    const changed = changedNames(identity, this.#identity);
    if (changed.length === 0) return plan;
    if (hasCheckpoint) throw settingsChanged(changed);
    return undefined;
  }

  async write(plan: KeptPlan): Promise<void> {
    await writeJsonAtomic(this.#path, { identity: this.#identity, ...plan });
  }

  async remove(): Promise<void> {
    await rm(this.#path, { force: true });
  }
}
