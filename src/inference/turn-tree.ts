import { concatenate } from '../core/concatenate.js';
import { commonLength } from './common-length.js';
import type { Reservation } from './sequence-pool.js';

/**
 * A radix tree of the rows that lie behind the same cartridges: a node is a run of tokens that all sequences below it have in
 * common, and the way from the root to it spells what they begin with.
 */
export interface TurnNode {
  readonly origin: TurnOrigin;
  /** None at a root. */
  parent: TurnNode | undefined;
  tokens: Int32Array;
  /** By their first token. */
  readonly children: Map<number, TurnNode>;
  /** The sequences that end here. What ends nowhere below a node lies in no sequence, so a leaf has at least one. */
  readonly strands: Set<TurnStrand>;
  /** Running requests that end here or are about to. */
  users: number;
  /** Position behind its last row. */
  end: number;
  lastUse: number;
}

/** Where a tree begins: a scope and cartridges. */
export interface TurnOrigin {
  readonly key: string;
  /** Rows of the cartridges. */
  readonly cartridgeEnd: number;
  readonly root: TurnNode;
}

/** A sequence whose rows are those on the way to its node, and, of a request that runs, some behind them. */
export interface TurnStrand {
  readonly reservation: Reservation;
  node: TurnNode;
}

export function makeOrigin(key: string, cartridgeEnd: number): TurnOrigin {
  const origin = { key, cartridgeEnd } as { key: string; cartridgeEnd: number; root: TurnNode };
  origin.root = makeNode(origin, undefined, new Int32Array(0), cartridgeEnd);
  return origin;
}

/** A new leaf below `parent`. */
export function addLeaf(parent: TurnNode, tokens: Int32Array): TurnNode {
  const node = makeNode(parent.origin, parent, tokens, parent.end + tokens.length);
  parent.children.set(tokens[0] as number, node);
  return node;
}

/** Cuts a node in two behind its first `count` tokens; returns the new upper part. Sequences go on ending at the lower one. */
export function splitNode(node: TurnNode, count: number): TurnNode {
  const parent = node.parent as TurnNode;
  const upper = makeNode(node.origin, parent, node.tokens.subarray(0, count), node.end - node.tokens.length + count);
  upper.lastUse = node.lastUse;
  parent.children.set(upper.tokens[0] as number, upper);
  node.tokens = node.tokens.subarray(count);
  node.parent = upper;
  upper.children.set(node.tokens[0] as number, node);
  return upper;
}

/** The longest common run of `tokens` with what the tree holds: the deepest node that has to do with it, and how far. */
export function findLongest(origin: TurnOrigin, tokens: Int32Array): { node: TurnNode; inNode: number; length: number } {
  let node = origin.root;
  let inNode = 0;
  let length = 0;
  while (inNode === node.tokens.length && length < tokens.length) {
    const child = node.children.get(tokens[length] as number);
    if (!child) break;
    node = child;
    inNode = commonLength(child.tokens, tokens.subarray(length));
    length += inNode;
  }
  return { node, inNode, length };
}

/** Some sequence that holds the rows on the way to a node. */
export function sequenceThrough(node: TurnNode): number {
  let at = node;
  for (;;) {
    for (const strand of at.strands) return strand.reservation.sequence;
    at = at.children.values().next().value as TurnNode;
  }
}

/** Whether the rows of a node lie in more sequences than one that ends there: giving that one up frees none of them. */
export function isShared({ children, strands }: TurnNode): boolean {
  return children.size > 0 || strands.size > 1;
}

/** The tokens on the way from the root to the end of a node. */
export function tokensThrough(node: TurnNode): Int32Array {
  const runs: Int32Array[] = [];
  for (let at: TurnNode | undefined = node; at; at = at.parent) runs.unshift(at.tokens);
  return concatenate(Int32Array, runs);
}

/** All nodes below one, the near ones first. */
export function nodesBelow(node: TurnNode): TurnNode[] {
  const nodes = [...node.children.values()];
  for (const each of nodes) nodes.push(...each.children.values());
  return nodes;
}

function makeNode(origin: TurnOrigin, parent: TurnNode | undefined, tokens: Int32Array, end: number): TurnNode {
  return { origin, parent, tokens, children: new Map(), strands: new Set(), users: 0, end, lastUse: 0 };
}
