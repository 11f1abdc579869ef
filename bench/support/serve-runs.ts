import { createInterface } from 'node:readline';

/** What a child process measures again and again. */
export interface Subject {
  /** Told to the parent once, when the subject is ready: choices it made, speeds it measured, memory it planned. */
  facts: Record<string, unknown>;
  /** One repetition; figures that it returns join its times. */
  run(): Promise<Record<string, number>>;
  /** Figures to measure beside every run and outside its time: a speed to compare with needs the same minutes. */
  beside?(): Promise<Record<string, number>>;
  dispose(): Promise<void>;
}

/**
 * The child's side of a {@link ../support/contestant.ts Contestant}: says that it is ready, makes one run for each line of
 * stdin, and when stdin ends reports the process' peak memory up to the end of the first run. Each message is one line of JSON on stdout.
 */
export async function serveRuns(subject: Subject): Promise<void> {
  const send = (message: unknown) => process.stdout.write(`${JSON.stringify(message)}\n`);
  send({ facts: subject.facts });
  let peakBytes: number | undefined;
  const notePeak = () => {
    // What is measured beside the first run would count from then on.
    peakBytes ??= process.resourceUsage().maxRSS * 1024;
  };
  for await (const _request of createInterface({ input: process.stdin })) send(await timed(subject, notePeak));
  send({ peakBytes });
  await subject.dispose();
}

async function timed(subject: Subject, onRun: () => void): Promise<Record<string, number>> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  const figures = await subject.run();
  const milliseconds = performance.now() - start;
  onRun();
  const beside = (await subject.beside?.()) ?? {};
  const { user, system } = process.cpuUsage(cpu);
  return { milliseconds, cpuMilliseconds: (user + system) / 1000, ...figures, ...beside };
}
