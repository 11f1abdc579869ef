import { defineConfig } from 'vitest/config';

/** Tests that put a stand-in in place of a module: a process that they share would keep the module. */
const withModuleMocks = ['src/self-study/synthesize.test.ts'];

export default defineConfig({
  test: {
    // Native code runs with two threads of its own and its threads spin: one test file at a time.
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: {
          name: 'modules',
          include: ['src/**/*.test.ts', 'bench/**/*.test.ts'],
          exclude: withModuleMocks,
          // One process for all: a fresh one for each file takes longer than most files.
          isolate: false,
        },
      },
      // Whole programs, and what keeps the event loop or the memory of a process under watch.
      { extends: true, test: { name: 'whole', include: ['test/**/*.test.ts', ...withModuleMocks] } },
    ],
  },
});
