import type { Command } from '@commander-js/extra-typings';
import { CartridgesError } from '../../core/errors.js';
import type { ApiKey } from '../../serving/auth/api-key.js';
import { formatTable } from '../format.js';
import { collect, withOutputOptions } from '../options.js';
import { runCommand } from '../run-command.js';
import type { Terminal } from '../terminal.js';

const FILE_FLAG = ['--keys <file>', 'file of API keys, as serve takes it'] as const;
const DAY_MS = 86_400_000;

/** `cartridges keys add|list|revoke`: who may use a server. */
export function addKeysCommand(program: Command, terminal: Terminal): void {
  const keys = program.command('keys').description('make, list and revoke API keys for a server');
  addAdd(keys, terminal);
  addList(keys, terminal);
  addRevoke(keys, terminal);
}

function addAdd(keys: Command, terminal: Terminal): void {
  withOutputOptions(
    keys
      .command('add')
      .description('make a key; it is shown once, the file keeps its hash')
      .argument('<name>', 'whose key it is')
      .requiredOption(...FILE_FLAG)
      .option('--cartridge <id>', 'a cartridge that it may use; repeatable', collect)
      .option('--all', 'it may use all cartridges')
      .option('--admin', 'it may load, upload, rename and delete cartridges')
      .option('--tokens-per-minute <n>', 'tokens that it may use a minute', wholeNumber)
      .option('--concurrency <n>', 'requests, and answers, that it may have under way', wholeNumber)
      .option('--days <n>', 'days until it expires', wholeNumber),
  ).action((name, { keys: path, cartridge = [], all, admin = false, tokensPerMinute, concurrency, days }, command) =>
    runCommand(terminal, command, async ({ output }) => {
      const { addKey } = await import('../../serving/auth/key-file.js');
      const { secret, entry } = await addKey(path, {
        name,
        cartridges: all ? ['*'] : cartridge,
        admin,
        limits: { ...(tokensPerMinute !== undefined && { tokensPerMinute }), ...(concurrency !== undefined && { concurrency }) },
        expiresAt: days === undefined ? null : new Date(Date.now() + days * DAY_MS).toISOString(),
      });
      output.result({ key: secret, id: entry.id, name }, () => secret);
    }),
  );
}

function addList(keys: Command, terminal: Terminal): void {
  withOutputOptions(
    keys
      .command('list')
      .description('show the keys of a file, without what is secret')
      .requiredOption(...FILE_FLAG),
  ).action(({ keys: path }, command) =>
    runCommand(terminal, command, async ({ output }) => {
      const { readKeyFile } = await import('../../serving/auth/key-file.js');
      const found = (await readKeyFile(path)).map(({ sha256: _, ...shown }) => shown);
      output.result({ keys: found }, () => formatTable([['name', 'id', 'cartridges', 'admin', 'expires'], ...found.map(toRow)]));
    }),
  );
}

function addRevoke(keys: Command, terminal: Terminal): void {
  withOutputOptions(
    keys
      .command('revoke')
      .description('take a key back; a running server refuses it from its next request on')
      .argument('<name>', 'whose key it is')
      .requiredOption(...FILE_FLAG),
  ).action((name, { keys: path }, command) =>
    runCommand(terminal, command, async ({ output }) => {
      const { revokeKey } = await import('../../serving/auth/key-file.js');
      await revokeKey(path, name);
      output.result({ revoked: name }, () => `revoked the key of ${name}`);
    }),
  );
}

function toRow({ name, id, cartridges, admin, expiresAt }: Omit<ApiKey, 'sha256'>): string[] {
  return [name, id, cartridges.join(' ') || '-', admin ? 'yes' : 'no', expiresAt ?? 'never'];
}

function wholeNumber(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new CartridgesError('INVALID_OPTION', `${JSON.stringify(text)} is no whole number above 0`);
}
