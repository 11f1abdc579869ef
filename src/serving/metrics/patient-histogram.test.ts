import { Registry } from 'prom-client';
import { expect, it } from 'vitest';
import { PatientHistogram } from './patient-histogram.js';

it('says what was observed when it is read, once', async () => {
  const registry = new Registry();
  const histogram = new PatientHistogram({ name: 'gaps', help: 'Gaps', buckets: [1, 10], registers: [registry] });
  const read = async () => {
    const lines = (await registry.metrics()).split('\n').filter((line) => line.startsWith('gaps'));
    return Object.fromEntries(lines.map((line) => line.split(' ')));
  };
  for (const value of [0.5, 2, 20]) histogram.observe(value);
  const first = {
    'gaps_bucket{le="1"}': '1',
    'gaps_bucket{le="10"}': '2',
    'gaps_bucket{le="+Inf"}': '3',
    gaps_sum: '22.5',
    gaps_count: '3',
  };
  expect(await read()).toEqual(first);
  expect(await read()).toEqual(first);
  // More than may wait.
  for (let count = 0; count < 2500; count++) histogram.observe(2);
  expect(await read()).toMatchObject({ 'gaps_bucket{le="10"}': '2502', gaps_count: '2503' });
});
