/** The flags that most benchmarks have. 0 threads are one for each processor. */
export const BENCH_OPTIONS = {
  json: { type: 'boolean', default: false },
  threads: { type: 'string', default: '0' },
  repetitions: { type: 'string', default: '5' },
  only: { type: 'string' },
} as const;
