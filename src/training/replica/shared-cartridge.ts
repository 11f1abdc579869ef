import { inSlices } from '../../core/slices.js';
import type { AdamAddresses } from '../../tensor/adam-kernel.js';
import { floatsAt } from '../../tensor/native-memory.js';
import type { OperandType } from '../../tensor/products/products.js';
import { Arena } from './arena.js';
import type { PrefixMemory } from './joint-keys.js';

export interface CartridgeShape {
  layers: number;
  kvHeads: number;
  headDimension: number;
  /** Rows, and how many of them at the start are not trained. */
  tokenCount: number;
  frozenCount: number;
  workers: number;
  operandType: OperandType;
}

/** The rows of one key/value head of one layer, [p, D], with their moments, and their gradient in each worker. */
export interface SharedRows {
  values: Float32Array;
  first: Float32Array;
  second: Float32Array;
  gradients: Float32Array[];
}

const KINDS = 2;

/**
 * The cartridge, its moments and its gradients in memory that all threads share, by address. Rows lie by head, as attention
 * reads them: f32 rows are operands where they lie, and for other operand types there is a copy.
 */
export class SharedCartridge {
  /** Keys of all layers, then values; of each layer one for each head. */
  readonly rows: readonly SharedRows[];
  readonly byteLength: number;
  readonly #shape: CartridgeShape;
  readonly #addresses: Addresses;

  /** Over the address 0 only {@link byteLength} may be asked for. */
  constructor(shape: CartridgeShape, address: bigint) {
    const arena = new Arena(address);
    this.#shape = shape;
    this.#addresses = layOut(shape, arena);
    this.byteLength = arena.byteLength;
    this.rows = address === 0n ? [] : this.#view();
  }

  /** What the attention of a layer reads and adds to in one worker. */
  prefixOf(layer: number, worker: number): PrefixMemory {
    const { values, operands, gradients } = this.#addresses;
    const at = (base: bigint, kind: number, bytes: number) => base + BigInt(this.#firstValue(kind, layer) * bytes);
    const [source, bytes] = operands === undefined ? [values, 4] : [operands, 2];
    return {
      keys: at(source, 0, bytes),
      values: at(source, 1, bytes),
      keyGradients: at(gradients[worker]!, 0, 4),
      valueGradients: at(gradients[worker]!, 1, 4),
    };
  }

  /** The rows of a head and where their copies as operands are to be; undefined where rows are operands themselves. */
  operandOf(index: number): { from: bigint; to: bigint } | undefined {
    const { values, operands } = this.#addresses;
    if (operands === undefined) return undefined;
    const first = index * this.valuesPerHead;
    return { from: values + BigInt(first * 4), to: operands + BigInt(first * 2) };
  }

  /** What an update of a head's rows works on: their trained values, and the gradient of the first worker. */
  trainedOf(index: number): AdamAddresses {
    const { values, first, second, gradients } = this.#addresses;
    const distance = this.#distanceOfTrained(index);
    return {
      values: values + distance,
      gradient: gradients[0]! + distance,
      first: first + distance,
      second: second + distance,
    };
  }

  /** The gradients of a head's trained values, one for each worker. */
  gradientsOf(index: number): bigint[] {
    const distance = this.#distanceOfTrained(index);
    return this.#addresses.gradients.map((address) => address + distance);
  }

  get valuesPerHead(): number {
    return this.#shape.tokenCount * this.#shape.headDimension;
  }

  /** Values at the start of a head's rows that are not trained. */
  get frozenValues(): number {
    return this.#shape.frozenCount * this.#shape.headDimension;
  }

  /** The numbers of the heads that a worker updates: those of every so many layers. */
  shareOf(worker: number): number[] {
    const { layers, kvHeads, workers } = this.#shape;
    return this.rows.flatMap((_, index) => ((Math.floor(index / kvHeads) % layers) % workers === worker ? [index] : []));
  }

  /** Values by head in the order of a cartridge: keys of all layers, then values, each [p, Hkv, D]. */
  async toLayers(pick: (rows: SharedRows) => Float32Array): Promise<Float32Array[]> {
    const layers: Float32Array[] = [];
    await this.#forEachRow(pick, (row, layer, place) => {
      layers[layer] ??= new Float32Array(this.valuesPerHead * this.#shape.kvHeads);
      layers[layer].set(row, place);
    });
    return layers;
  }

  /** The other way round. */
  async fromLayers(layers: readonly Float32Array[], pick: (rows: SharedRows) => Float32Array): Promise<void> {
    await this.#forEachRow(pick, (row, layer, place) => row.set(layers[layer]!.subarray(place, place + row.length)));
  }

  /** Makes the gradients of all workers zero. */
  async clearGradients(): Promise<void> {
    const values = this.rows.map((rows) => rows.values);
    await inSlices(values, (head, first, end) => {
      for (const part of this.rows[head]!.gradients) part.fill(0, first, end);
    });
  }

  /** With each row of each head, the layer that it belongs to, and its place there. */
  async #forEachRow(
    pick: (rows: SharedRows) => Float32Array,
    visit: (row: Float32Array, layer: number, place: number) => void,
  ): Promise<void> {
    const { kvHeads, headDimension } = this.#shape;
    const heads = this.rows.map(pick);
    const work = (index: number, first: number, end: number) => {
      const [layer, head] = [Math.floor(index / kvHeads), index % kvHeads];
      for (let start = first; start < end; start += headDimension) {
        const row = heads[index]!.subarray(start, start + headDimension);
        visit(row, layer, start * kvHeads + head * headDimension);
      }
    };
    await inSlices(heads, work, headDimension);
  }

  #distanceOfTrained(index: number): bigint {
    return BigInt((index * this.valuesPerHead + this.frozenValues) * Float32Array.BYTES_PER_ELEMENT);
  }

  #firstValue(kind: number, layer: number): number {
    return (kind * this.#shape.layers + layer) * this.#shape.kvHeads * this.valuesPerHead;
  }

  #view(): SharedRows[] {
    const { values, first, second, gradients } = this.#addresses;
    const { layers, kvHeads } = this.#shape;
    return Array.from({ length: KINDS * layers * kvHeads }, (_, index) => {
      const view = (base: bigint) => floatsAt(base + BigInt(index * this.valuesPerHead * 4), this.valuesPerHead);
      return { values: view(values), first: view(first), second: view(second), gradients: gradients.map(view) };
    });
  }
}

interface Addresses {
  values: bigint;
  first: bigint;
  second: bigint;
  gradients: bigint[];
  operands: bigint | undefined;
}

function layOut({ layers, kvHeads, headDimension, tokenCount, workers, operandType }: CartridgeShape, arena: Arena): Addresses {
  const count = KINDS * layers * kvHeads * headDimension * tokenCount;
  const floats = () => arena.take(count * Float32Array.BYTES_PER_ELEMENT);
  return {
    values: floats(),
    first: floats(),
    second: floats(),
    gradients: Array.from({ length: workers }, floats),
    operands: operandType === 'f32' ? undefined : arena.take(count * Uint16Array.BYTES_PER_ELEMENT),
  };
}
