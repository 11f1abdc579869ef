import { describe, expect, test } from 'vitest';
import { PickleObject, PickleTuple, type PickleWorld, unpickle } from './pickle-machine.js';

const world: PickleWorld = {
  globals: new Map<string, unknown>([
    ['a count', (args: readonly unknown[]) => args.length],
    ['a Object', () => new PickleObject()],
    ['a constant', 5],
  ]),
  persistent: (id) => ({ id }),
};

/** Runs operations of protocol 2, each character one byte. */
const run = (operations: string) => unpickle(Buffer.from(`\x80\x02${operations}`, 'latin1'), world, 'x.pt');

const tuple = (...items: unknown[]) => new PickleTuple(items);

describe('runs', () => {
  test.each<[string, string, unknown]>([
    ['constants', '(N\x88\x89t.', tuple(null, true, false)],
    ['numbers', '(K\xffM\x01\x02J\xfe\xff\xff\xfft.', tuple(255, 513, -2)],
    ['text in UTF-8', 'X\x03\0\0\0\xe2\x82\xac.', '€'],
    ['lists, one item and several', '](K\x01K\x02eK\x03a.', [1, 2, 3]],
    ['dicts, one item and several', '}(K\x01K\x02uK\x03K\x04s.', new Map().set(1, 2).set(3, 4)],
    ['short tuples', ')\x85K\x01K\x02\x86K\x03\x87.', tuple(tuple(tuple()), tuple(1, 2), 3)],
    ['memory', '(K\x07q\x00r\xff\xff\xff\x7fh\x00j\xff\xff\xff\x7ft.', tuple(7, 7, 7)],
    ['calls', 'ca\ncount\n(K\x01K\x02tR.', 2],
    ['persistent ids', 'K\x05Q.', { id: 5 }],
  ])('%s', (_what, operations, expected) => {
    expect(run(operations)).toEqual(expected);
  });

  test('objects with attributes', () => {
    const result = run('ca\nObject\n)\x81}(K\x01K\x02ub.') as PickleObject;
    expect(result).toBeInstanceOf(PickleObject);
    expect(result.attributes).toEqual(new Map([[1, 2]]));
  });

  test('lists that hold themselves, without following them', () => {
    const list = run(']q\x00h\x00a.') as unknown[];
    expect(list[0]).toBe(list);
  });
});

describe('refuses', () => {
  test.each<[string, string, RegExp]>([
    ['a name that it does not know', 'cos\nsystem\n.', /wants to use "os system", which no cartridge needs; nothing was run/],
    ['an unknown name before anything is called', 'ca\ncount\ncos\nsystem\n)R.', /"os system"/],
    ['an operation of later protocols', '\x8c\x01a.', /the operation 0x8c/],
    ['calling a value', 'ca\nconstant\n)R.', /calls what is no function/],
    ['calling with a list', 'ca\ncount\n]R.', /calls what is no function/],
    ['attributes of a list', ']}b.', /sets attributes of what has none/],
    ['attributes that are no dict', 'ca\nObject\n)\x81]b.', /sets attributes of what has none/],
    ['attributes set twice', 'ca\nObject\n)\x81}b}b.', /sets attributes of what has none/],
    ['appending to a dict', '}K\x01a.', /appends to what is no list/],
    ['an odd number of items', '}(K\x01u.', /sets items of what is no dict/],
    ['items of a list', '](K\x01K\x02u.', /sets items of what is no dict/],
    ['a missing mark', 'K\x01t.', /a mark is missing/],
    ['an empty stack', '.', /a value is missing/],
    ['a mark as a value', '(.', /a value is missing/],
    ['remembering nothing', 'q\x00.', /a value is missing/],
    ['what was not remembered', 'h\x00.', /nothing was remembered as 0/],
    ['two results', 'NN.', /leaves more than one value/],
    ['no end', 'N', /cut off/],
    ['a text that is longer than the file', 'X\xff\xff\xff\xff.', /cut off/],
    ['a name without end', 'cos', /cut off/],
  ])('%s', (_what, operations, message) => {
    const refusal = expect.objectContaining({ code: 'INVALID_CARTRIDGE', message: expect.stringMatching(message) });
    expect(() => run(operations)).toThrow(refusal);
  });

  test('other protocols and long programs', () => {
    expect(() => unpickle(Buffer.from('\x80\x04N.', 'latin1'), world, 'x.pt')).toThrow(/of protocol 4, not 2/);
    expect(() => unpickle(Buffer.alloc(2 << 20), world, 'x.pt')).toThrow(/2097152 bytes, more than/);
  });
});
