import { setTimeout } from 'node:timers/promises';

/** Every sample of `/metrics` by its name with its labels. */
export type Samples = Map<string, number>;

export function parseSamples(text: string): Samples {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(lines.map((line) => [line.replace(/ \S+$/, '').replace('cartridges_', ''), Number(line.split(' ').at(-1))]));
}

/** Of 20 ms each. */
const MAX_IDLE_LOOKS = 100;

/**
 * Waits until the engine has nothing to do; then the cells of the cache are only those that are kept on purpose. An answer's own
 * leave it when the decode behind its last one is over: for that it waits a while, no longer, and whoever counts them sees the rest.
 */
export async function samplesWhenIdle(read: () => Promise<Samples>): Promise<Samples> {
  for (let idleLooks = 0; ; ) {
    const samples = await read();
    const isIdle = samples.get('requests{state="running"}') === 0 && samples.get('requests{state="waiting"}') === 0;
    if (isIdle && (samples.get('kv_cells{owner="requests"}') === 0 || ++idleLooks > MAX_IDLE_LOOKS)) return samples;
    await setTimeout(20);
  }
}
