import { expect, test } from 'vitest';
import { findOneDnn, problemOf } from './library.js';

const version = { major: 3, minor: 2, patch: 0, cpu_runtime: 2 };

test('a path where nothing is, or another library, is a problem that names the path', () => {
  for (const path of ['/nowhere/libdnnl.so.3', process.execPath]) {
    expect(findOneDnn(path)).toMatchObject({ state: 'unusable', problem: expect.stringContaining(path) });
  }
});

test('takes 2.6, 3 and later releases of both, with OpenMP or without threads', () => {
  for (const [major, minor] of [
    [2, 6],
    [2, 7],
    [3, 0],
    [3, 9],
  ] as const) {
    expect(problemOf('dnnl', { ...version, major, minor })).toBeUndefined();
  }
  expect(problemOf('dnnl', { ...version, cpu_runtime: 1 })).toBeUndefined();
});

test('refuses other versions, and builds with threads of their own', () => {
  expect(problemOf('dnnl', { ...version, major: 2, minor: 5 })).toContain('oneDNN 2.5.0');
  expect(problemOf('dnnl', { ...version, major: 4 })).toContain('oneDNN 4.2.0');
  expect(problemOf('dnnl', { ...version, cpu_runtime: 4 })).toContain('OpenMP');
});
