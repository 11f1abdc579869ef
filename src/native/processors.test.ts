import { availableParallelism } from 'node:os';
import { expect, test } from 'vitest';
import { allowedProcessors, parseProcessorList } from './processors.js';

test('reads a list of processors', () => {
  expect(parseProcessorList('0')).toEqual([0]);
  expect(parseProcessorList('0-2,5,8-9')).toEqual([0, 1, 2, 5, 8, 9]);
});

test.skipIf(process.platform !== 'linux')('knows the processors of this process', () => {
  expect(allowedProcessors()).toHaveLength(availableParallelism());
});
