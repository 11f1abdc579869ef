import type { CartridgeHandle } from '../../inference/cartridge-handle.js';
import type { Caller } from '../caller.js';

export const CARTRIDGE_SOURCES = ['local', 'huggingface', 'wandb'] as const;
export type CartridgeSourceName = (typeof CARTRIDGE_SOURCES)[number];

/** A cartridge as a request names it. */
export interface CartridgeReference {
  /** A name or alias of the library, or what the source calls it. */
  id: string;
  /** Where to look when the library does not have it. */
  source: CartridgeSourceName;
  /** Fetch it again even when the library has it. */
  forceRedownload: boolean;
}

/** Cartridges that one request uses. They stay as they are until {@link release}, whatever is reloaded or deleted meanwhile. */
export interface HeldCartridges {
  /** In the order of the references. */
  readonly handles: readonly CartridgeHandle[];
  readonly ids: readonly string[];
  /** Rows of all of them. */
  readonly tokenCount: number;
  release(): void;
}

/** What a caller may know of a cartridge without opening it. */
export interface CartridgeEntry {
  readonly id: string;
  readonly aliases: readonly string[];
  readonly tokenCount: number;
  readonly bytes: number;
  readonly sha256: string;
  /** Unix seconds. */
  readonly createdAt: number;
}

/** The cartridges that a server knows. */
export interface CartridgeLibrary {
  /** What the caller may use, sorted by id. */
  list(caller: Caller): readonly CartridgeEntry[];
  /**
   * Makes cartridges ready for a request and holds them. Rejects with a `RequestError`: 404 for what is unknown or foreign, 400
   * for a source that is not allowed or a cartridge of another model, 502 for a download that fails.
   */
  hold(references: readonly CartridgeReference[], caller: Caller, signal?: AbortSignal): Promise<HeldCartridges>;
}
