import type { Caller } from './caller.js';

/** An answer of the API that did not go over the network. */
export interface DispatchedResponse {
  status: number;
  body: unknown;
  /** What the sender should know beside the answer. */
  warning?: string;
}

/** Sends a JSON body through a route of this server as a caller, as if it had come over the network: lines of batches do. */
export type Dispatch = (path: string, body: unknown, caller: Caller, signal?: AbortSignal) => Promise<DispatchedResponse>;
