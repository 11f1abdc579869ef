import { Histogram, type HistogramConfiguration } from 'prom-client';

/** Values that wait at most. */
const MOST_WAITING = 1024;

/**
 * A histogram for what is measured at every token: values wait until somebody reads it, or there are many. One by one they would take a
 * twentieth of the time that the event loop has for a token, since little of their code is in the processor's cache then.
 */
export class PatientHistogram {
  readonly #histogram: Histogram;
  #waiting: number[] = [];

  constructor(configuration: HistogramConfiguration<string>) {
    this.#histogram = new Histogram({ ...configuration, collect: () => this.#observeAll() });
  }

  observe(value: number): void {
    if (this.#waiting.push(value) >= MOST_WAITING) this.#observeAll();
  }

  #observeAll(): void {
    for (const value of this.#waiting) this.#histogram.observe(value);
    this.#waiting = [];
  }
}
