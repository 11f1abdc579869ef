import { openSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { type RequestHandler, serveRequests } from '../../core/serve-requests.js';
import type { WorkerMessage } from '../../core/worker-requests.js';
import { readMatrixRows } from '../../models/matrix-rows.js';
import type { Ggml } from '../../native/ggml.js';
import { openGgml } from '../../native/open-ggml.js';
import { blockSignals } from '../../native/signals.js';
import type { AdamUpdate } from '../../tensor/adam.js';
import { AdamKernel } from '../../tensor/adam-kernel.js';
import { GradientSum } from '../../tensor/gradient-sum.js';
import { openProducts } from '../../tensor/products/open-products.js';
import { dense, type Kernel, type Products } from '../../tensor/products/products.js';
import { Arena } from './arena.js';
import type { HeadSquares, Requests, WorkerStart } from './protocol.js';
import { Replica } from './replica.js';
import { ReplicaContext } from './replica-context.js';
import { layOutReplica } from './replica-memory.js';
import type { ReplicaUnit } from './replica-unit.js';
import { SharedCartridge } from './shared-cartridge.js';
import { WorkClock } from './work-clock.js';

type WorkRequest = WorkerMessage<Requests>;

/**
 * The entry of a worker thread of the replica step. It answers one request at a time; what happens between two updates is the
 * main thread's to order, so workers never wait for each other.
 */
class ReplicaWorker implements RequestHandler<Requests> {
  readonly #start: WorkerStart;
  readonly #ggml: Ggml;
  readonly #products: Products;
  readonly #cartridge: SharedCartridge;
  readonly #share: readonly number[];
  readonly #replica: Replica;
  /** There is neither where no value is trained. */
  readonly #adam: AdamKernel | undefined;
  readonly #gradientSum: GradientSum | undefined;
  /** Adds the gradients of all workers into the first one's; gives the sum of the squares. */
  readonly #sumGradients: (head: number) => number;
  readonly #updateHead: (head: number, update: AdamUpdate) => void;
  readonly #copyOperand: Kernel | undefined;
  readonly #embeddingFile: number;
  readonly #clock = new WorkClock();

  constructor(start: WorkerStart) {
    const { shape, model, products, backend, buffer, index } = start;
    this.#start = start;
    this.#ggml = openGgml(start.libraries);
    const thread = { ggml: this.#ggml, backend, buffer };
    this.#products = openProducts(products, thread);
    this.#cartridge = new SharedCartridge(start.cartridge, start.cartridgeAddress);
    this.#share = this.#cartridge.shareOf(index);
    const memory = layOutReplica(model.config, shape, this.#products.operandType, new Arena(start.memoryAddress));
    const clock = start.profiles ? this.#clock : undefined;
    const context = new ReplicaContext({ thread, products: this.#products, model, shape, memory, clock });
    this.#replica = new Replica(
      context,
      model.layers.map((_, layer) => this.#cartridge.prefixOf(layer, index)),
    );
    const { valuesPerHead, frozenValues } = this.#cartridge;
    const trained = valuesPerHead - frozenValues;
    this.#adam = trained > 0 ? new AdamKernel(thread, trained) : undefined;
    this.#gradientSum = trained > 0 ? new GradientSum(thread, trained) : undefined;
    this.#sumGradients = context.timed((head) => this.#gradientSum?.run(this.#cartridge.gradientsOf(head)) ?? 0);
    this.#updateHead = context.timed((head, update) => this.#adam?.run(this.#cartridge.trainedOf(head), update));
    const head = [valuesPerHead];
    const { operandType } = context.products;
    this.#copyOperand = operandType === 'f32' ? undefined : context.products.copy(dense(head), dense(head, operandType));
    this.#embeddingFile = openSync(model.embeddings.path, 'r');
  }

  handle(request: WorkRequest): Requests[keyof Requests]['answer'] {
    if (request.kind === 'profile') return { times: this.#clock.take() };
    return this.#start.profiles ? this.#clock.busy(() => this.#work(request)) : this.#work(request);
  }

  dispose(): void {
    this.#adam?.dispose();
    this.#gradientSum?.dispose();
    this.#replica.dispose();
  }

  #work(request: Exclude<WorkRequest, { kind: 'profile' }>): Requests[keyof Requests]['answer'] {
    switch (request.kind) {
      case 'start':
        return { scratchBytes: this.#products.scratchBytes, implementations: [...this.#products.implementations] };
      case 'run':
        return { loss: this.#run(request.unit, request.wantsGradient) };
      case 'reduce':
        return { squares: this.#reduceShare() };
      case 'update':
        return { squares: this.#update(request) };
      case 'refresh':
        this.#refreshOperands();
        return {};
    }
  }

  #run(unit: ReplicaUnit, wantsGradient: boolean): number {
    const embeddings = readMatrixRows({ ggml: this.#ggml }, this.#embeddingFile, this.#start.model.embeddings, unit.tokens);
    return this.#replica.run(unit, embeddings, wantsGradient);
  }

  /** The gradients of all workers into the first one's. */
  #reduce(head: number): number {
    const squares = this.#sumGradients(head);
    for (const part of this.#cartridge.rows[head]!.gradients.slice(1)) part.fill(0);
    return squares;
  }

  #reduceShare(): HeadSquares[] {
    return this.#share.map((head) => [head, this.#reduce(head)]);
  }

  #update({ update, reduces }: Requests['update']['request']): HeadSquares[] {
    const squares = reduces ? this.#reduceShare() : [];
    for (const head of this.#share) {
      this.#updateHead(head, update);
      this.#cartridge.rows[head]!.gradients[0]!.fill(0);
    }
    this.#refreshOperands();
    return squares;
  }

  #refreshOperands(): void {
    for (const head of this.#share) {
      const operand = this.#cartridge.operandOf(head);
      if (operand) this.#copyOperand?.(operand.from, operand.to);
    }
  }
}

// The main thread handles signals; here they would hurt (see `blockSignals`).
blockSignals();
serveRequests<Requests>('a thread of the training step', () => new ReplicaWorker(workerData));
