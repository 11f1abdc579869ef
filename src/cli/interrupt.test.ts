import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { listenForInterrupt } from './interrupt.js';

class FakeProcess extends EventEmitter {
  status: number | undefined;
  exit(status: number): never {
    this.status = status;
    return undefined as never;
  }
}

describe('listenForInterrupt', () => {
  it('aborts at the first signal and exits at a second keystroke, not at an echo of the first', async () => {
    const source = new FakeProcess();
    let text = '';
    const interrupt = listenForInterrupt(source, { write: (piece) => (text += piece) }, 'run it again to continue');
    source.emit('SIGINT');
    source.emit('SIGINT');
    expect(interrupt.signal.aborted).toBe(true);
    expect(source.status).toBeUndefined();
    expect(text).toBe('\nstopping; run it again to continue. Ctrl-C again stops at once.\n');
    await sleep(510);
    source.emit('SIGINT');
    expect(source.status).toBe(130);
  });

  it('leaves no listener behind', () => {
    const source = new FakeProcess();
    listenForInterrupt(source, { write: () => {} }, '').dispose();
    expect(source.eventNames()).toEqual([]);
  });
});
