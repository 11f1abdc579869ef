import type { Products } from '../../tensor/products/products.js';

/** Kinds of work of a step: products with frozen matrices, attention, and all other native code. */
export type WorkKind = 'linear' | 'attention' | 'rest';

/** Milliseconds that native code took, and of all work, that native code included. */
export type WorkTimes = Record<WorkKind | 'busy', number>;

const NO_TIMES: Readonly<WorkTimes> = { linear: 0, attention: 0, rest: 0, busy: 0 };

/** Adds up what kernels take, for benchmarks: a step without a clock has none of this. */
export class WorkClock {
  #times = { ...NO_TIMES };

  time<Arguments extends readonly unknown[], Result>(kind: WorkKind, kernel: (...args: Arguments) => Result) {
    return (...args: Arguments): Result => {
      const start = performance.now();
      const result = kernel(...args);
      this.#times[kind] += performance.now() - start;
      return result;
    };
  }

  /** Counts all that `work` does as busy; the rest of the time is spent waiting. */
  busy<Result>(work: () => Result): Result {
    const start = performance.now();
    const result = work();
    this.#times.busy += performance.now() - start;
    return result;
  }

  /** What was added up since the last call. */
  take(): WorkTimes {
    const times = this.#times;
    this.#times = { ...NO_TIMES };
    return times;
  }
}

/** Products whose kernels are timed: those with frozen matrices as `linear`, all others as `kind`. */
export class TimedProducts implements Products {
  readonly #products: Products;
  readonly #clock: WorkClock;
  readonly #kind: WorkKind;

  constructor(products: Products, clock: WorkClock, kind: WorkKind) {
    this.#products = products;
    this.#clock = clock;
    this.#kind = kind;
  }

  get name() {
    return this.#products.name;
  }

  get operandType() {
    return this.#products.operandType;
  }

  get implementations() {
    return this.#products.implementations;
  }

  get scratchBytes() {
    return this.#products.scratchBytes;
  }

  linear(...args: Parameters<Products['linear']>) {
    return this.#clock.time('linear', this.#products.linear(...args));
  }

  linearBackward(...args: Parameters<Products['linearBackward']>) {
    return this.#clock.time('linear', this.#products.linearBackward(...args));
  }

  matmul(...args: Parameters<Products['matmul']>) {
    return this.#clock.time(this.#kind, this.#products.matmul(...args));
  }

  offsetMatmul(...args: Parameters<Products['offsetMatmul']>) {
    return this.#clock.time(this.#kind, this.#products.offsetMatmul(...args));
  }

  copy(...args: Parameters<Products['copy']>) {
    return this.#clock.time(this.#kind, this.#products.copy(...args));
  }

  softmax(...args: Parameters<Products['softmax']>) {
    return this.#clock.time(this.#kind, this.#products.softmax(...args));
  }

  exp(...args: Parameters<Products['exp']>) {
    return this.#clock.time(this.#kind, this.#products.exp(...args));
  }

  divideRows(...args: Parameters<Products['divideRows']>) {
    return this.#clock.time(this.#kind, this.#products.divideRows(...args));
  }

  rowDots(...args: Parameters<Products['rowDots']>) {
    return this.#clock.time(this.#kind, this.#products.rowDots(...args));
  }

  gatedBackward(...args: Parameters<Products['gatedBackward']>) {
    return this.#clock.time(this.#kind, this.#products.gatedBackward(...args));
  }

  norm(...args: Parameters<Products['norm']>) {
    return this.#clock.time(this.#kind, this.#products.norm(...args));
  }

  normBackward(...args: Parameters<Products['normBackward']>) {
    return this.#clock.time(this.#kind, this.#products.normBackward(...args));
  }

  dispose(): void {
    this.#products.dispose();
  }
}
