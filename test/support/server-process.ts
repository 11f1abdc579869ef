import type { ChildProcess } from 'node:child_process';
import { type CommandOptions, type CommandResult, runCommand } from './command-line.js';

/** `cartridges serve` in a process of its own. */
export interface ServerProcess {
  url: string;
  child: ChildProcess;
  ended: Promise<CommandResult>;
}

const FLAGS = ['--model', 'pocket', '--threads', '1', '--port', '0', '--json'];

/** Starts a server with the pocket model on a free port. Resolves when it answers; rejects with its stderr when it ends before. */
export function startServerProcess(flags: readonly string[], options: CommandOptions): Promise<ServerProcess> {
  return new Promise((resolve, reject) => {
    const onStart = (child: ChildProcess) => {
      child.stdout!.once('data', (line) => resolve({ url: (JSON.parse(String(line)) as { url: string }).url, child, ended }));
    };
    const ended = runCommand(['serve', ...FLAGS, ...flags], { ...options, onStart });
    ended.then(({ stderr }) => reject(new Error(stderr)));
  });
}
