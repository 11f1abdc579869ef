import picocolors from 'picocolors';
import { readEnvironment } from '../core/environment.js';
import type { TextStream } from './terminal.js';

export type Colors = ReturnType<typeof picocolors.createColors>;

/** Colours for a stream: on a terminal, unless NO_COLOR is set. */
export function colorsFor(stream: TextStream): Colors {
  return picocolors.createColors(stream.isTTY === true && !readEnvironment().noColor);
}
