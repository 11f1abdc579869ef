import { constants } from 'node:os';
import { koffi } from './koffi.js';

/** `sigset_t` has 128 bytes on Linux, and fewer elsewhere. */
const SIGNAL_SET_BYTES = 128;
/** Faults of the thread itself: a thread that blocks them is killed by them. */
const FAULTS = ['SIGSEGV', 'SIGBUS', 'SIGFPE', 'SIGILL', 'SIGTRAP'] as const;

interface SignalCalls {
  block: number;
  restore: number;
  sigfillset(set: Uint8Array): number;
  sigdelset(set: Uint8Array, signal: number): number;
  pthread_sigmask(how: number, set: Uint8Array, previous: Uint8Array | null): number;
}

let calls: SignalCalls | undefined;

/**
 * Keeps signals from the calling thread; returns what lets them in again. Others of the process still get them.
 *
 * oneDNN's f32 products on AVX2 (2.6.3 and 3.2.0) compute on a stack of their own that has no room for a signal's handler:
 * one that comes meanwhile (Ctrl-C, a profiler) overwrites other memory. Windows has no such signals.
 */
export function blockSignals(): () => void {
  if (process.platform === 'win32') return () => {};
  calls ??= bindSignals();
  const { block, restore, sigfillset, sigdelset, pthread_sigmask } = calls;
  const [signals, previous] = [new Uint8Array(SIGNAL_SET_BYTES), new Uint8Array(SIGNAL_SET_BYTES)];
  sigfillset(signals);
  for (const name of FAULTS) sigdelset(signals, constants.signals[name]);
  pthread_sigmask(block, signals, previous);
  return () => {
    pthread_sigmask(restore, previous, null);
  };
}

function bindSignals(): SignalCalls {
  const isMac = process.platform === 'darwin';
  const library = koffi.load(isMac ? 'libSystem.B.dylib' : 'libc.so.6');
  const bind = <F>(signature: string) => library.func(signature) as unknown as F;
  return {
    // SIG_BLOCK and SIG_SETMASK
    block: isMac ? 1 : 0,
    restore: isMac ? 3 : 2,
    sigfillset: bind('int sigfillset(void *set)'),
    sigdelset: bind('int sigdelset(void *set, int signal)'),
    pthread_sigmask: bind('int pthread_sigmask(int how, const void *set, void *previous)'),
  };
}
