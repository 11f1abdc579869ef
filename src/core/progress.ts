export type Stage =
  | 'load'
  | 'corpus'
  | 'synthesize'
  | 'train'
  | 'evaluate'
  | 'answer'
  | 'verify'
  | 'convert'
  | 'download'
  | 'measure';

/** One step of long work, told to whoever listens: the command line draws it, a library caller gets it as it is. */
export type ProgressEvent =
  | { kind: 'start'; stage: Stage; message: string; total?: number }
  | { kind: 'progress'; stage: Stage; done: number; total: number; values?: Record<string, number>; message?: string }
  | { kind: 'end'; stage: Stage; message: string; seconds: number }
  | { kind: 'note' | 'warning'; stage: Stage; message: string };

export type ProgressListener = (event: ProgressEvent) => void;

/** Options that every long-running function takes. */
export interface RunOptions {
  onProgress?: ProgressListener;
  signal?: AbortSignal;
}
