import { expect, it } from 'vitest';
import type { BatchRows } from '../batch.js';
import { ASSUMED_ROW_COST, assumedRowCost, MeasuredRowCost } from './row-cost.js';

function batch(newTokens: number, draftedTokens: number, promptTokens = 0): BatchRows {
  return { newTokens, draftedTokens, promptTokens, cachedPromptTokens: 0 };
}

it('learns what a drafted row costs from decodes with and without, for each number of sequences', () => {
  const cost = new MeasuredRowCost();
  for (let i = 0; i < 100; i++) {
    cost.note(batch(1, 0), 10);
    for (let drafted = 1; drafted <= 4; drafted++) cost.note(batch(1, drafted), 10 + 2 * drafted);
    cost.note(batch(8, 0), 40);
    cost.note(batch(8, 4), 40 + 4 * 5);
  }
  expect(cost.at(1)).toBeCloseTo(0.2, 1);
  expect(cost.at(8)).toBeCloseTo(1, 0);
  expect(cost.at(8)).toBeGreaterThan(0.85);
  expect(cost.at(2)).toBe(ASSUMED_ROW_COST);
});

it('is not worth it for many sequences where nothing is measured', () => {
  expect([1, 4, 5, 100].map(assumedRowCost)).toEqual([ASSUMED_ROW_COST, ASSUMED_ROW_COST, 1, 1]);
});

it('says nothing without a plain decode, or where prompts are read', () => {
  const cost = new MeasuredRowCost();
  cost.note(batch(1, 4), 100);
  cost.note(batch(1, 0, 20), 10);
  cost.note(batch(1, 4, 20), 100);
  expect(cost.at(1)).toBe(ASSUMED_ROW_COST);
});

it('is not upset by one slow decode, and forgets a high cost while nothing is drafted', () => {
  const cost = new MeasuredRowCost();
  cost.note(batch(1, 0), 10);
  cost.note(batch(1, 1), 10_000);
  expect(cost.at(1)).toBeLessThan(0.85);
  for (let i = 0; i < 50; i++) cost.note(batch(1, 1), 10_000);
  expect(cost.at(1)).toBeGreaterThan(1.8);
  for (let i = 0; i < 700; i++) cost.note(batch(1, 0), 10);
  expect(cost.at(1)).toBeLessThan(0.85);
});
