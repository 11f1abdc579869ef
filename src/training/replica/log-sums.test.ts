import { expect, test } from 'vitest';
import { addUpLogSums, deriveLogSums, noteFirstScores } from './log-sums.js';

const [ROWS, COLUMNS] = [3, 5];
const AT = 2;
const scores = Float32Array.from({ length: ROWS * COLUMNS }, (_, index) => Math.sin(index * 1.7) * 20);
scores[COLUMNS + 3] = Number.NEGATIVE_INFINITY;

function rowsOf(values: Float32Array): number[][] {
  return Array.from({ length: ROWS }, (_, row) => [...values.subarray(row * COLUMNS, (row + 1) * COLUMNS)]);
}

function expectedSums(values: Float32Array): number[] {
  return rowsOf(values).map((row) => Math.log(row.reduce((sum, score) => sum + Math.exp(score), 0)));
}

/** As an f32 softmax gives them: what is too small is 0. */
function weightsOf(values: Float32Array): Float32Array {
  const sums = expectedSums(values);
  return Float32Array.from(rowsOf(values).flatMap((row, index) => row.map((score) => Math.exp(score - sums[index]!))));
}

function derive(values: Float32Array): { isKnown: boolean; sums: Float32Array } {
  const [firstScores, sums] = [new Float32Array(ROWS), new Float32Array(AT + ROWS)];
  noteFirstScores(values, COLUMNS, firstScores);
  return { isKnown: deriveLogSums(weightsOf(values), COLUMNS, firstScores, sums, AT), sums };
}

test('the sum of a row follows from its first score and weight', () => {
  const { isKnown, sums } = derive(scores);
  expect(isKnown).toBe(true);
  expectedSums(scores).forEach((sum, row) => {
    expect(sums[AT + row]).toBeCloseTo(sum, 4);
  });
});

test('a first weight that is too small is told, and its row added up', () => {
  const distant = scores.slice();
  distant[COLUMNS] = -80;
  expect(derive(distant).isKnown).toBe(false);
  const sums = new Float32Array(AT + ROWS);
  addUpLogSums(distant, ROWS, COLUMNS, sums, AT);
  expectedSums(distant).forEach((sum, row) => {
    expect(sums[AT + row]).toBeCloseTo(sum, 4);
  });
});
