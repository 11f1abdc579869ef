import { beforeEach, describe, expect, it } from 'vitest';
import { ProgressDisplay } from './progress-display.js';

let text = '';
let clock = 0;
const stream = { write: (piece: string) => (text += piece), columns: 80 };
const display = (interactive: boolean, quiet = false) => new ProgressDisplay(stream, { interactive, quiet, now: () => clock });

beforeEach(() => {
  text = '';
  clock = 0;
});

describe('in a pipe', () => {
  it('writes plain lines, some seconds apart', () => {
    const { listen } = display(false);
    listen({ kind: 'start', stage: 'train', message: '200 steps', total: 200 });
    for (let done = 1; done <= 200; done++) {
      clock += 100;
      listen({ kind: 'progress', stage: 'train', done, total: 200, values: { loss: 1.23456 } });
    }
    listen({ kind: 'end', stage: 'train', message: 'trained', seconds: 20 });
    const lines = text.trimEnd().split('\n');
    expect(lines[0]).toBe('train: 200 steps');
    expect(lines.at(-1)).toBe('train: trained (20 s)');
    expect(lines.slice(1, -1).map((line) => line.split('  ')[0])).toEqual([
      'train: 0 %',
      'train: 25 %',
      'train: 50 %',
      'train: 75 %',
    ]);
    expect(lines[3]).toBe('train: 50 %  101/200  loss 1.235  9.9 s left');
    expect(text).not.toContain('\u001b');
  });

  it('measures the speed of this run only, and shows bytes of a download', () => {
    const { listen } = display(false);
    listen({ kind: 'progress', stage: 'download', done: 5e8, total: 1e9 });
    clock = 10_000;
    listen({ kind: 'progress', stage: 'download', done: 6e8, total: 1e9 });
    expect(text.split('\n')[1]).toBe('download: 60 %  572.2 MiB/953.7 MiB  40 s left');
  });

  it('shows no control characters of a message, and keeps it in one line', () => {
    const { listen } = display(false);
    const message = 'skipped \u001b[2J\u009b1mnotes.txt\nand more';
    listen({ kind: 'start', stage: 'corpus', message });
    listen({ kind: 'progress', stage: 'corpus', done: 1, total: 2, message });
    listen({ kind: 'warning', stage: 'corpus', message });
    listen({ kind: 'end', stage: 'corpus', message, seconds: 1 });
    const shown = 'skipped \uFFFD[2J\uFFFD1mnotes.txt and more';
    expect(text.split('\n')).toEqual([
      `corpus: ${shown}`,
      `corpus: 50 %  1/2  ${shown}`,
      `corpus: warning: ${shown}`,
      `corpus: ${shown} (1.0 s)`,
      '',
    ]);
  });

  it('keeps warnings when quiet, and nothing else', () => {
    const { listen } = display(false, true);
    listen({ kind: 'start', stage: 'train', message: 'x' });
    listen({ kind: 'warning', stage: 'train', message: 'half of it is lost' });
    listen({ kind: 'end', stage: 'train', message: 'x', seconds: 1 });
    expect(text).toBe('train: warning: half of it is lost\n');
  });
});

describe('on a terminal', () => {
  it('rewrites one line within the width, and takes it away before other text', () => {
    const shown = display(true);
    const values = Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`value${index}`, index]));
    shown.listen({ kind: 'progress', stage: 'train', done: 1, total: 2, values });
    clock = 50;
    shown.listen({ kind: 'progress', stage: 'train', done: 2, total: 2 });
    const [, line = ''] = text.split('\r\u001b[2K');
    expect(line).toContain('█'.repeat(12) + '░'.repeat(12));
    expect(line.length).toBeLessThan(80);
    expect(text).not.toContain('100 %');
    shown.listen({ kind: 'note', stage: 'train', message: 'best so far' });
    expect(text.endsWith('\r\u001b[2Ktrain: best so far\n')).toBe(true);
    shown.clear();
    expect(text.endsWith('best so far\n')).toBe(true);
  });
});
