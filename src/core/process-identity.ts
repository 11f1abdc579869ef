import { readFileSync } from 'node:fs';

/** One run of a program. Ids of processes come back: where the system tells when a process started, that belongs to it. */
export interface ProcessIdentity {
  pid: number;
  started?: string;
}

export function thisProcess(): ProcessIdentity {
  return { pid: process.pid, ...startOf(process.pid) };
}

/** Whether it still runs; one whose start nobody knows is told by its id alone. */
export function isRunning({ pid, started }: ProcessIdentity): boolean {
  const now = startOf(pid);
  if (now.hasEnded || (started !== undefined && now.started !== undefined && now.started !== started)) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // It is there and belongs to somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * When a process started, as the boot of the system and the ticks since then; nothing where there is no `/proc`. One that was
 * killed is listed until its parent has asked for its status.
 */
function startOf(pid: number): { started?: string; hasEnded?: boolean } {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name of the program stands in parentheses and may hold anything; the state is the third field, the start the 22nd.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { started: `${boot} ${fields[19]}`, hasEnded: fields[0] === 'Z' || fields[0] === 'X' };
  } catch {
    return {};
  }
}
