import { commonLength } from './common-length.js';
import type { SequenceContext } from './sequence-context.js';
import type { Reservation, SequencePool } from './sequence-pool.js';
import type { CartridgeRows } from './sequence-work.js';
import type { SharedRows, SharedRowsTable } from './shared-rows.js';
import type { StoredTurn, TurnStore } from './turn-store.js';
import {
  addLeaf,
  findLongest,
  isShared,
  makeOrigin,
  nodesBelow,
  sequenceThrough,
  splitNode,
  type TurnNode,
  type TurnOrigin,
  type TurnStrand,
  tokensThrough,
} from './turn-tree.js';

/** Computed rows that a request is about to go on from; they stay until it has begun. */
export interface TurnMatch {
  readonly node: TurnNode;
  readonly length: number;
}

interface TurnCacheParts {
  context: SequenceContext;
  pool: SequencePool;
  shared: SharedRowsTable;
  /** Where rows go that leave the cache. */
  store: TurnStore;
}

/**
 * Keeps the rows of requests for later ones of the same scope and cartridges that begin alike. A cell is counted once, in the
 * node of the tree that it belongs to, however many sequences lie in it; it is free when the last of them is gone. An idle
 * sequence lies at a leaf only: the way there is what it keeps. Rows that leave the cache are copied into a store, from where
 * they come back.
 */
export class TurnCache {
  readonly #context: SequenceContext;
  readonly #pool: SequencePool;
  readonly #shared: SharedRowsTable;
  readonly #store: TurnStore;
  /** A sequence that is nobody's: rows pass through it on their way to the store and back. */
  readonly #passage: number;
  readonly #origins = new Map<string, { origin: TurnOrigin; cartridges: readonly SharedRows[] }>();
  readonly #idle = new Set<TurnStrand>();
  #uses = 0;

  constructor({ context, pool, shared, store }: TurnCacheParts) {
    this.#context = context;
    this.#pool = pool;
    this.#shared = shared;
    this.#store = store;
    this.#passage = pool.take(0).sequence;
  }

  get isEmpty(): boolean {
    return this.#origins.size === 0;
  }

  /** Cells of all turns, and of those among them that a running request stands on. */
  get cells(): { all: number; inUse: number } {
    const count = { all: 0, inUse: 0 };
    for (const { origin } of this.#origins.values()) {
      const nodes = nodesBelow(origin.root);
      const used = new Set<TurnNode>();
      for (const user of nodes.filter(({ users }) => users > 0)) {
        for (let node: TurnNode | undefined = user; node; node = node.parent) used.add(node);
      }
      for (const node of nodes) {
        count.all += node.tokens.length;
        if (used.has(node)) count.inUse += node.tokens.length;
      }
    }
    return count;
  }

  /** How many of these first tokens are computed, here or in the store. */
  knownLength(originKey: string, tokens: Int32Array): number {
    const found = this.#origins.get(originKey);
    return this.#store.reach(originKey, tokens, found ? findLongest(found.origin, tokens).length : 0);
  }

  /** Finds the longest computed beginning of some tokens and keeps it, until {@link begin} or {@link forgo}. */
  match(originKey: string, tokens: Int32Array): TurnMatch | undefined {
    const found = this.#origins.get(originKey);
    if (!found) return undefined;
    const { node, inNode, length } = findLongest(found.origin, tokens);
    const end = inNode < node.tokens.length ? splitNode(node, inNode) : node;
    end.users++;
    this.#touch(end);
    return { node: end, length };
  }

  forgo({ node }: TurnMatch): void {
    node.users--;
    this.#dropIfEmpty(node.origin);
  }

  /** Begins a sequence with the rows of a match, or without any behind `cartridges`, which the turns keep from then on. */
  begin(
    originKey: string,
    match: TurnMatch | undefined,
    reservation: Reservation,
    cartridges: readonly SharedRows[],
  ): TurnStrand {
    const node = match?.node ?? this.#addOrigin(originKey, cartridges).root;
    if (!match) node.users++;
    if (node.parent) this.#context.share(sequenceThrough(node), reservation.sequence, node.end);
    const strand: TurnStrand = { reservation, node };
    node.strands.add(strand);
    return strand;
  }

  /**
   * Brings rows of these tokens back from the store, as far as they go on from a sequence that has only begun, and enters them.
   * The rows of its cartridges must be in the cache.
   */
  async restore(strand: TurnStrand, tokens: Int32Array): Promise<void> {
    const { origin } = strand.node;
    for (;;) {
      const known = strand.node.end - origin.cartridgeEnd;
      const found = this.#store.find(origin.key, tokens, known);
      if (!found || !(await this.#copyBack(strand, found))) return;
      this.extend(strand, tokens.subarray(0, found.length));
    }
  }

  /**
   * Enters what a running sequence has computed: `tokens` are those of all its rows behind the cartridges. Where another one
   * has computed the same by now, both go on with the other's cells.
   */
  extend(strand: TurnStrand, tokens: Int32Array): void {
    const { node: from } = strand;
    let node = from;
    for (let rest = tokens.subarray(from.end - from.origin.cartridgeEnd); rest.length > 0; ) {
      const known = node.children.get(rest[0] as number);
      node = known ? this.#join(strand, known, rest) : this.#addLeaf(strand, node, rest);
      rest = rest.subarray(node.tokens.length);
    }
    from.strands.delete(strand);
    from.users--;
    strand.node = node;
    node.strands.add(strand);
    node.users++;
    this.#touch(node);
  }

  /** The request of a sequence is done: its rows stay for others. */
  retire(strand: TurnStrand): void {
    const { node } = strand;
    this.#stop(strand);
    if (isShared(node)) this.#leave(strand);
    else this.#idle.add(strand);
  }

  /** The request of a sequence is broken off: what it alone had computed is free at once. */
  abandon(strand: TurnStrand): void {
    this.#stop(strand);
    this.#retreat(strand);
  }

  /** Gives up the rows that were not used for longest and lie in one sequence only; false when all are in use. */
  dropOldest(): boolean {
    const oldest = this.#findOldest();
    if (oldest) this.#retreat(oldest);
    return oldest !== undefined;
  }

  /** As {@link dropOldest}, with a copy of the rows in the store. */
  async storeOldest(): Promise<boolean> {
    const oldest = this.#findOldest();
    if (!oldest) return false;
    await this.#copyOut(oldest);
    this.#retreat(oldest);
    return true;
  }

  /** Gives up the turns behind a cartridge, stored ones too; no running request may be among them. */
  dropBehind(cartridge: CartridgeRows): void {
    this.#store.dropBehind(cartridge.key);
    for (const { origin, cartridges } of [...this.#origins.values()]) {
      if (!cartridges.some((rows) => rows.cartridge?.key === cartridge.key)) continue;
      for (const strand of [...this.#idle]) {
        while (strand.node.origin === origin && this.#idle.has(strand)) this.#retreat(strand);
      }
    }
  }

  #findOldest(): TurnStrand | undefined {
    let oldest: TurnStrand | undefined;
    for (const strand of this.#idle) {
      if (strand.node.users > 0) continue;
      if (!oldest || strand.node.lastUse < oldest.node.lastUse) oldest = strand;
    }
    return oldest;
  }

  /** Stores the rows of an idle sequence's node; what is before them is stored when its turn comes. */
  async #copyOut({ node, reservation }: TurnStrand): Promise<void> {
    if (this.#store.limitBytes === 0 || isShared(node)) return;
    const { origin, end } = node;
    const tokens = tokensThrough(node);
    const start = tokens.length - node.tokens.length;
    if (this.#store.has(origin.key, tokens, start)) return;
    const cartridges = this.#origins.get(origin.key)?.cartridges ?? [];
    const cartridgeKeys = cartridges.flatMap(({ cartridge }) => cartridge?.key ?? []);
    this.#context.share(reservation.sequence, this.#passage, end, end - node.tokens.length);
    try {
      const rows = await this.#context.save(this.#passage);
      this.#store.add({ originKey: origin.key, cartridgeKeys, tokens, start, rows });
    } catch {
      // Whoever goes on from them computes them again.
      this.#store.countLost();
    } finally {
      this.#context.remove(this.#passage);
    }
  }

  /** Puts the rows of a copy behind those of a sequence; false when there is no room for all of the copy meanwhile, or it is lost. */
  async #copyBack({ node, reservation }: TurnStrand, { turn, length }: { turn: StoredTurn; length: number }): Promise<boolean> {
    const spareCells = Math.max(0, turn.tokens.length - turn.start - reservation.cells);
    if (!this.#pool.takeCells(spareCells)) return false;
    const { key, cartridgeEnd } = node.origin;
    // A sequence that begins with rows of others has those of the cartridges from them.
    const cartridges = node.parent ? [] : (this.#origins.get(key)?.cartridges ?? []);
    try {
      await this.#context.load(this.#passage, turn.rows);
      for (const { reservation: from, end } of cartridges) this.#context.share(from.sequence, reservation.sequence, end);
      this.#context.share(this.#passage, reservation.sequence, cartridgeEnd + length, node.end);
      this.#store.touch(turn);
      return true;
    } catch {
      this.#store.lose(turn);
      return false;
    } finally {
      this.#context.remove(this.#passage);
      this.#pool.giveCells(spareCells);
    }
  }

  #addOrigin(key: string, cartridges: readonly SharedRows[]): TurnOrigin {
    for (const rows of cartridges) rows.users++;
    const origin = makeOrigin(key, cartridges.at(-1)?.end ?? 0);
    this.#origins.set(key, { origin, cartridges });
    return origin;
  }

  #addLeaf({ reservation }: TurnStrand, parent: TurnNode, tokens: Int32Array): TurnNode {
    reservation.cells -= tokens.length;
    const leaf = addLeaf(parent, tokens.slice());
    // The new leaf's sequence keeps the parent's rows from now on.
    for (const strand of [...parent.strands]) if (this.#idle.has(strand)) this.#leave(strand);
    return leaf;
  }

  /** Gives a sequence the cells of a node in place of its own with the same tokens. */
  #join({ reservation }: TurnStrand, known: TurnNode, tokens: Int32Array): TurnNode {
    const length = commonLength(known.tokens, tokens);
    const node = length < known.tokens.length ? splitNode(known, length) : known;
    const start = node.end - length;
    this.#context.remove(reservation.sequence, start, node.end);
    this.#context.share(sequenceThrough(node), reservation.sequence, node.end, start);
    this.#pool.giveCells(length);
    reservation.cells -= length;
    return node;
  }

  /** Gives back what a sequence has set aside and not used. */
  #stop({ node, reservation }: TurnStrand): void {
    node.users--;
    this.#pool.giveCells(reservation.cells);
    reservation.cells = 0;
  }

  /** Takes a sequence out of its node; when no other one lies in that, the sequence keeps the rows before it. */
  #retreat(strand: TurnStrand): void {
    const { node } = strand;
    const { parent } = node;
    if (!parent || isShared(node)) {
      this.#leave(strand);
      return;
    }
    parent.children.delete(node.tokens[0] as number);
    strand.node = parent;
    parent.strands.add(strand);
    this.#context.remove(strand.reservation.sequence, parent.end);
    this.#pool.giveCells(node.tokens.length);
    if (!parent.parent || isShared(parent)) this.#leave(strand);
    else this.#idle.add(strand);
  }

  /** Gives a sequence back whose rows are others' too. */
  #leave(strand: TurnStrand): void {
    this.#idle.delete(strand);
    strand.node.strands.delete(strand);
    this.#pool.give(strand.reservation);
    this.#dropIfEmpty(strand.node.origin);
  }

  #dropIfEmpty({ key, root }: TurnOrigin): void {
    if (root.children.size > 0 || root.strands.size > 0 || root.users > 0) return;
    for (const rows of this.#origins.get(key)?.cartridges ?? []) this.#shared.release(rows);
    this.#origins.delete(key);
  }

  #touch(node: TurnNode): void {
    this.#uses++;
    for (let at: TurnNode | undefined = node; at; at = at.parent) at.lastUse = this.#uses;
  }
}
