import type { Command } from '@commander-js/extra-typings';
import type { RequestLogEntry } from '../../serving/http/track-request.js';
import { formatValue, printable } from '../format.js';
import { collect, SettingOption, withSettingsOptions } from '../options.js';
import { runCommand } from '../run-command.js';
import { requireModel } from '../settings.js';
import type { Terminal } from '../terminal.js';

/** `cartridges serve`: many cartridges for many users behind the APIs that people already use. */
export function addServeCommand(program: Command, terminal: Terminal): void {
  withSettingsOptions(
    program
      .command('serve')
      .description('serve cartridges over HTTP: the OpenAI API and the cartridge API of Tokasaurus')
      .addOption(new SettingOption('--model-name <id>', 'serving.modelName', 'id of the model in the API'))
      .addOption(
        new SettingOption('--cartridge <name=path>', 'serving.cartridges', 'a cartridge and its name; repeatable').argParser(
          collect,
        ),
      )
      .addOption(
        new SettingOption(
          '--corpus <name=path>',
          'serving.corpora',
          "a cartridge's text, which answers may quote; repeatable",
        ).argParser(collect),
      )
      .addOption(new SettingOption('--cartridge-dir <folder>', 'serving.cartridgeFolder', 'folder of cartridges'))
      .addOption(new SettingOption('--host <address>', 'serving.host', 'address to listen on'))
      .addOption(new SettingOption('--port <n>', 'serving.port', 'port to listen on; 0 takes a free one'))
      .addOption(new SettingOption('--keys <file>', 'serving.keys', 'file of API keys; needed beyond this machine'))
      .addOption(
        new SettingOption('--allow-origin <origin>', 'serving.allowOrigins', 'pages that may call it; repeatable').argParser(
          collect,
        ),
      )
      .addOption(new SettingOption('--context-tokens <n>', 'serving.contextTokens', 'cells of the cache, of all users together'))
      .addOption(new SettingOption('--max-requests <n>', 'serving.maxRequests', 'answers at the same time')),
  ).action((flags, command) =>
    runCommand(
      terminal,
      command,
      async ({ output, settings: resolve, run }) => {
        const settings = await resolve();
        const { startServer } = await import('../../serving/server.js');
        const onLog = (entry: RequestLogEntry) => terminal.stderr.write(logLine(entry, flags.verbose === true));
        const named = { ...settings, model: requireModel(settings) };
        const server = await startServer(named, { ...run, ...(!flags.quiet && { onLog }) });
        const { url, model, plan } = server;
        output.result({ url, model, ...plan }, () => `serving ${model} on ${url}`);
        await aborted(run.signal);
        await server.close();
      },
      'requests under way are finished first',
    ),
  );
}

/** `POST /v1/chat/completions 200 312 ms key_0123456789abcdef 5f0c…` */
function logLine({ method, path, status, milliseconds, scope, requestId, error }: RequestLogEntry, verbose: boolean): string {
  const line = [method, printable(path), status, `${formatValue(milliseconds)} ms`, scope ?? '-', requestId].join(' ');
  if (error === undefined) return `${line}\n`;
  return `${line}\n  ${verbose ? error.stack : printable(error.message)}\n`;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
