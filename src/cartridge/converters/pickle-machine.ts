import { invalidCheckpoint } from './invalid-checkpoint.js';

/**
 * The machine of Python's pickle format, cut down to the operations that `torch.save` uses for a dict of tensors (protocol 2).
 * A pickle is a program that may call any function by name. Here it finds only what it is given; every other name ends the
 * reading before anything is called.
 */

/** Most bytes of a program; that of 1,024 layers has about 700 KB. An operation may make an object, so memory is bounded too. */
const MAX_PROGRAM_BYTES = 1 << 20;

/** A Python tuple. Lists are arrays, dicts are Maps. */
export class PickleTuple {
  readonly items: readonly unknown[];

  constructor(items: readonly unknown[]) {
    this.items = items;
  }
}

/** An object whose attributes the program sets once, after making it. */
export class PickleObject {
  attributes: ReadonlyMap<unknown, unknown> | undefined;
}

/** A function that programs may call; it checks its arguments itself. */
export type PickleFunction = (args: readonly unknown[]) => unknown;

/** What a program may use of the world outside. */
export interface PickleWorld {
  /** By `module name`; functions can be called, all else is a value. */
  globals: ReadonlyMap<string, unknown>;
  /** The object that a persistent id stands for: here a storage. */
  persistent(id: unknown): unknown;
}

const MARK = Symbol('mark');

/** Runs a program and returns what it leaves. Throws `INVALID_CARTRIDGE` with what is wrong. */
export function unpickle(program: Uint8Array, world: PickleWorld, path: string): unknown {
  if (program.length > MAX_PROGRAM_BYTES) {
    throw invalidCheckpoint(path, `its pickle has ${program.length} bytes, more than ${MAX_PROGRAM_BYTES}`);
  }
  return new PickleMachine(program, world, path).run();
}

class PickleMachine {
  readonly #program: Buffer;
  readonly #world: PickleWorld;
  readonly #path: string;
  readonly #stack: unknown[] = [];
  readonly #memo = new Map<number, unknown>();
  #next = 0;

  constructor(program: Uint8Array, world: PickleWorld, path: string) {
    this.#program = Buffer.from(program.buffer, program.byteOffset, program.byteLength);
    this.#world = world;
    this.#path = path;
  }

  run(): unknown {
    for (;;) {
      const code = this.#byte();
      if (code === STOP) break;
      const operation = OPERATIONS.get(code);
      if (!operation) throw this.#invalid(`its pickle has the operation 0x${code.toString(16)}, which no cartridge needs`);
      operation(this);
    }
    const result = this.pop();
    if (this.#stack.length > 0) throw this.#invalid('its pickle leaves more than one value');
    return result;
  }

  push(value: unknown): void {
    this.#stack.push(value);
  }

  pop(): unknown {
    return this.#take(this.#stack.pop());
  }

  /** The values above the last mark, which is taken away too. */
  popToMark(): unknown[] {
    const mark = this.#stack.lastIndexOf(MARK);
    if (mark < 0) throw this.#invalid('its pickle is damaged: a mark is missing');
    const items = this.#stack.splice(mark);
    items.shift();
    return items;
  }

  mark(): void {
    this.#stack.push(MARK);
  }

  protocol(): void {
    const version = this.#byte();
    if (version !== 2) throw this.#invalid(`its pickle is of protocol ${version}, not 2`);
  }

  uint8(): number {
    return this.#byte();
  }

  uint16(): number {
    return this.#bytes(2).readUInt16LE();
  }

  int32(): number {
    return this.#bytes(4).readInt32LE();
  }

  uint32(): number {
    return this.#bytes(4).readUInt32LE();
  }

  text(): string {
    return this.#bytes(this.uint32()).toString('utf8');
  }

  remember(index: number): void {
    this.#memo.set(index, this.#take(this.#stack.at(-1)));
  }

  recall(index: number): void {
    if (!this.#memo.has(index)) throw this.#invalid(`its pickle is damaged: nothing was remembered as ${index}`);
    this.push(this.#memo.get(index));
  }

  global(): void {
    const name = `${this.#line()} ${this.#line()}`;
    if (!this.#world.globals.has(name)) {
      throw this.#invalid(`it wants to use ${JSON.stringify(name.slice(0, 120))}, which no cartridge needs; nothing was run`);
    }
    this.push(this.#world.globals.get(name));
  }

  call(): void {
    const args = this.pop();
    const called = this.pop();
    if (typeof called !== 'function' || !(args instanceof PickleTuple))
      throw this.#invalid('its pickle calls what is no function');
    this.push((called as PickleFunction)(args.items));
  }

  persistent(): void {
    this.push(this.#world.persistent(this.pop()));
  }

  setAttributes(): void {
    const attributes = this.pop();
    const target = this.#stack.at(-1);
    if (!(target instanceof PickleObject && target.attributes === undefined && attributes instanceof Map)) {
      throw this.#invalid('its pickle sets attributes of what has none');
    }
    target.attributes = attributes;
  }

  append(items: readonly unknown[]): void {
    const list = this.#stack.at(-1);
    if (!Array.isArray(list)) throw this.#invalid('its pickle appends to what is no list');
    for (const item of items) list.push(item);
  }

  setItems(items: readonly unknown[]): void {
    const dict = this.#stack.at(-1);
    if (!(dict instanceof Map) || items.length % 2 !== 0) throw this.#invalid('its pickle sets items of what is no dict');
    for (let index = 0; index < items.length; index += 2) dict.set(items[index], items[index + 1]);
  }

  #take(value: unknown): unknown {
    if (value === undefined || value === MARK) throw this.#invalid('its pickle is damaged: a value is missing');
    return value;
  }

  #byte(): number {
    return this.#bytes(1)[0]!;
  }

  #bytes(length: number): Buffer {
    if (length > this.#program.length - this.#next) throw this.#invalid('its pickle is cut off');
    this.#next += length;
    return this.#program.subarray(this.#next - length, this.#next);
  }

  #line(): string {
    const end = this.#program.indexOf(0x0a, this.#next);
    if (end < 0) throw this.#invalid('its pickle is cut off');
    const line = this.#program.toString('utf8', this.#next, end);
    this.#next = end + 1;
    return line;
  }

  #invalid(reason: string): Error {
    return invalidCheckpoint(this.#path, reason);
  }
}

const STOP = '.'.charCodeAt(0);

/** Operations by their code; the letters are those of the format. */
const OPERATIONS: ReadonlyMap<number, (machine: PickleMachine) => void> = new Map(
  (
    [
      [0x80, (machine) => machine.protocol()],
      ['(', (machine) => machine.mark()],
      ['N', (machine) => machine.push(null)],
      [0x88, (machine) => machine.push(true)],
      [0x89, (machine) => machine.push(false)],
      ['K', (machine) => machine.push(machine.uint8())],
      ['M', (machine) => machine.push(machine.uint16())],
      ['J', (machine) => machine.push(machine.int32())],
      ['X', (machine) => machine.push(machine.text())],
      [']', (machine) => machine.push([])],
      ['}', (machine) => machine.push(new Map())],
      [')', (machine) => machine.push(new PickleTuple([]))],
      ['t', (machine) => machine.push(new PickleTuple(machine.popToMark()))],
      [0x85, (machine) => machine.push(lastAsTuple(machine, 1))],
      [0x86, (machine) => machine.push(lastAsTuple(machine, 2))],
      [0x87, (machine) => machine.push(lastAsTuple(machine, 3))],
      ['a', (machine) => machine.append([machine.pop()])],
      ['e', (machine) => machine.append(machine.popToMark())],
      ['s', (machine) => machine.setItems(lastAsTuple(machine, 2).items)],
      ['u', (machine) => machine.setItems(machine.popToMark())],
      ['q', (machine) => machine.remember(machine.uint8())],
      ['r', (machine) => machine.remember(machine.uint32())],
      ['h', (machine) => machine.recall(machine.uint8())],
      ['j', (machine) => machine.recall(machine.uint32())],
      ['c', (machine) => machine.global()],
      ['R', (machine) => machine.call()],
      [0x81, (machine) => machine.call()],
      ['b', (machine) => machine.setAttributes()],
      ['Q', (machine) => machine.persistent()],
    ] satisfies [number | string, (machine: PickleMachine) => void][]
  ).map(([code, operation]) => [typeof code === 'string' ? code.charCodeAt(0) : code, operation]),
);

function lastAsTuple(machine: PickleMachine, count: number): PickleTuple {
  return new PickleTuple(Array.from({ length: count }, () => machine.pop()).reverse());
}
