import type { InferenceEngine } from '../inference/inference-engine.js';
import type { ChatFraming } from '../models/chat-framing.js';

/** The model of a server. */
export interface ServedModel {
  /** Its id in the API: the name of the GGUF without `.gguf`, or what `--model-name` says. */
  readonly name: string;
  /** Unix seconds. */
  readonly createdAt: number;
  readonly engine: InferenceEngine;
  readonly framing: ChatFraming;
}

/** `BASE` is the bare model, `BASE:NAME` the model behind the cartridge NAME. */
export function splitModelId(id: string, base: string): { cartridge: string | undefined } | undefined {
  if (id === base) return { cartridge: undefined };
  return id.startsWith(`${base}:`) ? { cartridge: id.slice(base.length + 1) } : undefined;
}
