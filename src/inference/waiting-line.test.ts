import { expect, it } from 'vitest';
import { WaitingLine } from './waiting-line.js';

interface Entry {
  scope: string;
  name: string;
}

function lineOf(names: string): WaitingLine<Entry> {
  const line = new WaitingLine<Entry>();
  for (const name of names.split(' ')) line.add({ scope: name[0]!, name });
  return line;
}

function takeAll(line: WaitingLine<Entry>): string {
  const order: string[] = [];
  for (let entry = line.next(new Set()); entry; entry = line.next(new Set())) {
    order.push(entry.name);
    line.take(entry);
  }
  return order.join(' ');
}

it('is a queue with one scope', () => expect(takeAll(lineOf('a1 a2 a3'))).toBe('a1 a2 a3'));

it('lets scopes take turns, in order inside of each', () => {
  expect(takeAll(lineOf('a1 a2 a3 a4 b1 c1 b2'))).toBe('a1 b1 c1 a2 b2 a3 a4');
});

it('keeps the turn of a scope whose first entry is passed over', () => {
  const line = lineOf('a1 a2 b1');
  const [first] = line;
  expect(line.next(new Set([first!]))!.name).toBe('a2');
  line.take(line.next(new Set([first!]))!);
  expect(takeAll(line)).toBe('b1 a1');
});

it('takes entries out without touching whose turn it is', () => {
  const line = lineOf('a1 a2 b1 b2');
  expect(line.remove(({ name }) => name === 'a1' || name === 'b2').map(({ name }) => name)).toEqual(['a1', 'b2']);
  expect(line.size).toBe(2);
  expect(takeAll(line)).toBe('a2 b1');
});

it('says who is next of all', () => {
  expect(
    lineOf('a1 a2 a3 b1')
      .first(3)
      .map(({ name }) => name),
  ).toEqual(['a1', 'b1', 'a2']);
  expect(lineOf('a1').first(3)).toHaveLength(1);
});
