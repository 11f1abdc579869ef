import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from '../../src/core/package.js';

/** The command line as users start it; `dist/` is brought up to date by it. */
const CARTRIDGES = join(packageRoot, 'bin', 'cartridges.js');

export interface CommandResult {
  /** Null when a signal ended the process. */
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface CommandOptions {
  /** Working folder; run folders and caches go there too. */
  folder: string;
  environment?: Record<string, string>;
  /** What comes on stdin; nothing by default. */
  input?: string;
  /** In place of the command line, for example a script of this repository. */
  script?: string;
  /** In place of the node that runs the tests. */
  node?: string;
  onStart?: (child: ChildProcess) => void;
  /** Hears all of stderr each time that it grows. */
  onStderr?: (text: string) => void;
}

/** Runs `cartridges` with arguments in a process of its own, away from the settings of whoever runs the tests. */
export async function runCommand(commandLine: readonly string[], options: CommandOptions): Promise<CommandResult> {
  const { folder, environment, input, script = CARTRIDGES, node = process.execPath, onStart, onStderr } = options;
  const inherited = Object.entries(process.env).filter(([name]) => !/^(CARTRIDGES_|HF_|NO_COLOR|FORCE_COLOR|CI$)/.test(name));
  const child = spawn(node, [script, ...commandLine], {
    cwd: folder,
    env: {
      ...Object.fromEntries(inherited),
      CARTRIDGES_CACHE: join(folder, 'cache'),
      HF_HOME: join(folder, 'hub'),
      ...environment,
    },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  // A process that ends early does not read it all.
  child.stdin.on('error', () => undefined).end(input);
  onStart?.(child);
  const text = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    text.stdout += piece;
  });
  child.stderr.setEncoding('utf8').on('data', (piece: string) => {
    text.stderr += piece;
    onStderr?.(text.stderr);
  });
  const [status, signal] = await once(child, 'close');
  return { status, signal, ...text };
}
