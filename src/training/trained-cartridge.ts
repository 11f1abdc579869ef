import type { FrozenModel } from '../models/frozen-model.js';
import { RowTensors } from './row-tensors.js';
import { countRows, type StepOptions } from './step-options.js';
import type { TrainingState } from './training-step.js';

/** All that the updates of a graph step change, on the device: the rows of a cartridge and Adam's moments of them. */
export class TrainedCartridge {
  readonly rows: RowTensors;
  readonly first: RowTensors;
  readonly second: RowTensors;
  /** So far. */
  updates = 0;

  /** Throws `OUT_OF_MEMORY`, and `INTERNAL` when the rows do not fit the model. */
  constructor(model: FrozenModel, options: StepOptions) {
    const tokenCount = countRows(options, model.config);
    const made: RowTensors[] = [];
    const make = (what: string) => {
      made.push(new RowTensors(model, tokenCount, what));
      return made.at(-1)!;
    };
    try {
      this.rows = make('the rows of the cartridge');
      this.first = make('the moments of the optimiser');
      this.second = make('the moments of the optimiser');
    } catch (error) {
      for (const tensors of made) tensors.dispose();
      throw error;
    }
    this.rows.fill([...options.keys, ...options.values]);
  }

  get byteLength(): number {
    return this.rows.byteLength + this.first.byteLength + this.second.byteLength;
  }

  /** A copy. */
  async state(): Promise<TrainingState> {
    const rows = await this.rows.read();
    const adam = { step: this.updates, first: await this.first.read(), second: await this.second.read() };
    return { ...this.rows.byKind(rows), adam };
  }

  async restore({ keys, values, adam }: TrainingState): Promise<void> {
    await this.rows.write([...keys, ...values]);
    await this.first.write(adam.first);
    await this.second.write(adam.second);
    this.updates = adam.step;
  }

  dispose(): void {
    for (const tensors of [this.rows, this.first, this.second]) tensors.dispose();
  }
}
