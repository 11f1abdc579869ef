import type { ErrorCode } from './errors.js';

/** What a worker thread is asked for, by kind, and what it answers. */
export type WorkerRequests<Requests> = { [Kind in keyof Requests]: { request: object; answer: object } };

export type WorkerMessage<Requests extends WorkerRequests<Requests>> = {
  [Kind in keyof Requests]: { kind: Kind } & Requests[Kind]['request'];
}[keyof Requests];

/** Ends the thread after what it does now. */
export interface CloseMessage {
  kind: 'close';
}

export type WorkerReply<Requests extends WorkerRequests<Requests>> =
  | { answer: Requests[keyof Requests]['answer'] }
  | { error: { code: ErrorCode; message: string; hint: string | undefined } };
