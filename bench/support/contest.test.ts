import { expect, test } from 'vitest';
import { contest, isMeasured } from './contest.js';
import type { ContestantOptions } from './contestant.js';
import type { MachineLoad } from './machine-load.js';

/** A contestant in plain JavaScript; `onRun` is the code of one run. */
function scripted(name: string, onRun: string, startSeconds = 10): ContestantOptions {
  const script = `
    const send = (message) => console.log(JSON.stringify(message));
    send({ facts: { name: '${name}' } });
    require('node:readline').createInterface({ input: process.stdin })
      .on('line', () => { ${onRun} })
      .on('close', () => send({ peakBytes: 42 }));`;
  return { name, command: [process.execPath, '-e', script], startSeconds, runSeconds: 10 };
}

const counting =
  'globalThis.n = (globalThis.n ?? 0) + 1; send({ milliseconds: globalThis.n, cpuMilliseconds: 0, at: Date.now() });';

/** A machine that is quiet but for the given readings of its clock. */
function load(readings: number[] = []): MachineLoad {
  return { busyMilliseconds: () => readings.shift() ?? 0, waitUntilQuiet: async () => {} };
}

test('contestants take turns after the warm-up and report their peak at the end', async () => {
  const result = await contest(scripted('a', counting), [scripted('b', counting)], { warmups: 2, repetitions: 3, load: load() });
  const [a, b] = [result.ours, result.rivals[0]!];
  expect(a).toMatchObject({ name: 'a', facts: { name: 'a' }, peakBytes: 42 });
  expect(a.runs.map((run) => run.milliseconds)).toEqual([3, 4, 5]);
  if (!isMeasured(b)) throw new Error('the rival was left out');
  const order = [a.runs[0]!, b.runs[0]!, a.runs[1]!, b.runs[1]!, a.runs[2]!, b.runs[2]!].map((run) => run['at']!);
  expect(order).toEqual([...order].sort((x, y) => x - y));
});

test('a run that other programs disturbed is made again and does not count', async () => {
  // The clock is read before and after each run; the second of the three runs is disturbed.
  const readings = [0, 0, 0, 1e9, 1e9, 1e9];
  const { ours } = await contest(scripted('a', counting), [], { warmups: 0, repetitions: 2, load: load(readings) });
  expect(ours.runs.map((run) => run.milliseconds)).toEqual([1, 3]);
  expect(readings).toEqual([]);
});

test('on a machine that is never quiet the least disturbed runs count', async () => {
  const readings = [0, 1e15, 0, 1e12, 0, 1e9, 0, 1e15];
  const { ours } = await contest(scripted('a', counting), [], { warmups: 0, repetitions: 2, load: load(readings) });
  expect(ours.runs.map((run) => run.milliseconds)).toEqual([3, 2]);
});

test('a rival that fails or is late is left out with its reason, and the others go on', async () => {
  const rivals: ContestantOptions[] = [
    scripted('dies', "console.error('RuntimeError: no kernel'); process.exit(1);"),
    { ...scripted('silent', counting), command: [process.execPath, '-e', 'setInterval(() => {}, 1000)'], startSeconds: 0.2 },
    { ...scripted('missing', counting), command: ['no-such-program'] },
  ];
  const result = await contest(scripted('good', counting), rivals, { warmups: 1, repetitions: 1, load: load() });
  expect(result.ours).toMatchObject({ name: 'good', peakBytes: 42 });
  expect(result.rivals).toEqual([
    { name: 'dies', failure: 'RuntimeError: no kernel' },
    { name: 'silent', failure: 'it was not ready within 0.2 s' },
    { name: 'missing', failure: expect.stringContaining('ENOENT') },
  ]);
});

test('when ours fails nothing more is measured', async () => {
  const dies = scripted('ours', "console.error('Error: no memory'); process.exit(1);");
  await expect(contest(dies, [scripted('rival', counting)], { warmups: 1, repetitions: 1, load: load() })).rejects.toThrow(
    'ours failed: Error: no memory',
  );
});
