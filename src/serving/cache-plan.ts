import { CartridgesError } from '../core/errors.js';
import { formatBytes } from '../core/format-bytes.js';

/** What is known before the cache is made. */
export interface CacheDemand {
  /** Bytes of keys and values of one token. */
  bytesPerToken: number;
  /** Tokens that the model was trained to read. */
  modelTokens: number;
  /** Bytes that are free where the cache will lie. */
  freeBytes: number;
  /** Bytes that are free in the memory of the processors. */
  hostFreeBytes: number;
  /** The cache lies in that memory too. */
  isCacheOnHost: boolean;
  /** For rows of finished turns outside of the cache, where it was said. */
  storedTurnBytes?: number;
  /** Cartridges that were named at start. */
  cartridges: readonly { id: string; tokenCount: number }[];
  /** Cells that were asked for; without it they are chosen. */
  contextTokens?: number;
  maxRequests: number;
  /** Tokens of a usual request with its answer. */
  requestTokens: number;
}

/** How the cache is laid out. */
export interface CachePlan {
  /** Cells of the cache. */
  contextTokens: number;
  bytes: number;
  /** Cells of the cartridges that stay in the cache: all that were named, or the largest when not all have room. */
  cartridgeTokens: number;
  keepsAllCartridges: boolean;
  /** Named cartridges that have room at the same time, beside a usual request. */
  cartridgesAtOnce: number;
  /** Usual requests that have room at the same time, at most as many as may run. */
  users: number;
  /** Most bytes of finished turns outside of the cache. */
  storedTurnBytes: number;
}

/** The engine rounds cells up to this. */
const CELL_STEP = 256;
/** A prompt and an answer that make sense have at least so many tokens. */
const MIN_REQUEST_TOKENS = 64;
/** One long request has room for so many tokens, where the model reads as many. */
const LONG_REQUEST_TOKENS = 8192;
/** More cells are no use: a decode looks through all of them that are taken. */
const MAX_CHOSEN_TOKENS = 1 << 18;
/** Of the free memory; the rest is for computation and for everything else. */
const MEMORY_SHARE = 0.5;
/** Of the free memory, for cells that were asked for: a decode needs some besides. */
const MOST_MEMORY_SHARE = 0.9;
/** Of the free memory, for finished turns. */
const STORED_TURN_SHARE = 1 / 8;
const MAX_CHOSEN_STORED_BYTES = 2 ** 32;

/**
 * Lays out the cache. Throws for what cannot work: `CONTEXT_OVERFLOW` for a cartridge that leaves the model no room,
 * `INVALID_OPTION` for too few cells, `OUT_OF_MEMORY` for what the memory does not hold.
 */
export function planCache(demand: CacheDemand): CachePlan {
  const { bytesPerToken, modelTokens, cartridges, maxRequests } = demand;
  const largest = Math.max(0, ...cartridges.map(({ tokenCount }) => tokenCount));
  const all = cartridges.reduce((sum, { tokenCount }) => sum + tokenCount, 0);
  checkCartridges(demand);
  const request = Math.min(demand.requestTokens, modelTokens - largest);
  const contextTokens = roundUp(demand.contextTokens ?? chooseCells(demand, all, request));
  checkCells(demand, contextTokens, largest + request);
  const keepsAllCartridges = all + request <= contextTokens;
  const cartridgeTokens = keepsAllCartridges ? all : largest;
  const users = Math.min(maxRequests, Math.floor((contextTokens - cartridgeTokens) / request));
  const bytes = contextTokens * bytesPerToken;
  const storedTurnBytes = planStoredTurns(demand, bytes);
  const cartridgesAtOnce = countFitting(cartridges, contextTokens - request);
  return { contextTokens, bytes, cartridgesAtOnce, cartridgeTokens, keepsAllCartridges, users, storedTurnBytes };
}

/** The plan in one line. */
export function describePlan(plan: CachePlan): string {
  const { contextTokens, bytes, cartridgeTokens, keepsAllCartridges, cartridgesAtOnce, users, storedTurnBytes } = plan;
  const kept = keepsAllCartridges
    ? `${cartridgeTokens} of them for named cartridges`
    : `named cartridges take turns in them, ${cartridgesAtOnce} at a time`;
  const room = `room for ${users} usual requests at a time`;
  return `cache of ${contextTokens} cells (${formatBytes(bytes)}); ${kept}; ${room}; up to ${formatBytes(storedTurnBytes)} for finished turns`;
}

function checkCartridges({ cartridges, modelTokens }: CacheDemand): void {
  const tooLong = cartridges.find(({ tokenCount }) => tokenCount + MIN_REQUEST_TOKENS > modelTokens);
  if (!tooLong) return;
  throw new CartridgesError(
    'CONTEXT_OVERFLOW',
    `the cartridge ${tooLong.id} has ${tooLong.tokenCount} rows and the model reads ${modelTokens} tokens: no request fits behind it`,
    { hint: 'serve a smaller cartridge, or a model with a longer context' },
  );
}

/** How many go into so many cells, the small ones first. */
function countFitting(cartridges: CacheDemand['cartridges'], cells: number): number {
  const sizes = cartridges.map(({ tokenCount }) => tokenCount).sort((a, b) => a - b);
  let left = cells;
  const tooMany = sizes.findIndex((size) => {
    left -= size;
    return left < 0;
  });
  return tooMany === -1 ? sizes.length : tooMany;
}

function chooseCells({ modelTokens, maxRequests, bytesPerToken, freeBytes }: CacheDemand, all: number, request: number): number {
  const wanted = all + Math.max(maxRequests * request, Math.min(modelTokens, LONG_REQUEST_TOKENS));
  return Math.min(wanted, MAX_CHOSEN_TOKENS, affordableCells(bytesPerToken, freeBytes));
}

function checkCells({ bytesPerToken, freeBytes }: CacheDemand, cells: number, needed: number): void {
  const affordable = affordableCells(bytesPerToken, freeBytes * (MOST_MEMORY_SHARE / MEMORY_SHARE));
  if (cells > affordable || needed > affordable) {
    const bytes = Math.max(cells, needed) * bytesPerToken;
    throw new CartridgesError('OUT_OF_MEMORY', `the cache needs ${formatBytes(bytes)}, ${formatBytes(freeBytes)} are free`, {
      hint: affordable > needed ? `use --context-tokens ${affordable} or less` : 'use a smaller model or smaller cartridges',
    });
  }
  if (cells >= needed) return;
  throw new CartridgesError(
    'INVALID_OPTION',
    `a cache of ${cells} cells has no room for the largest cartridge with a usual request: they need ${needed}`,
    { hint: `use --context-tokens ${roundUp(needed)} or more, or a smaller serving.requestTokens` },
  );
}

function planStoredTurns({ storedTurnBytes, hostFreeBytes, isCacheOnHost }: CacheDemand, cacheBytes: number): number {
  const leftBytes = Math.max(0, hostFreeBytes - (isCacheOnHost ? cacheBytes : 0));
  const chosen = Math.min(MAX_CHOSEN_STORED_BYTES, Math.floor(leftBytes * STORED_TURN_SHARE));
  const bytes = storedTurnBytes ?? chosen;
  if (bytes <= leftBytes) return bytes;
  throw new CartridgesError(
    'OUT_OF_MEMORY',
    `finished turns may take ${formatBytes(bytes)}, ${formatBytes(leftBytes)} are free beside the cache`,
    { hint: `set serving.storedTurnBytes to ${chosen} or less` },
  );
}

function affordableCells(bytesPerToken: number, freeBytes: number): number {
  return Math.floor((freeBytes * MEMORY_SHARE) / bytesPerToken / CELL_STEP) * CELL_STEP;
}

function roundUp(tokens: number): number {
  return Math.ceil(tokens / CELL_STEP) * CELL_STEP;
}
