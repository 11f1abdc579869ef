import type { Command } from '@commander-js/extra-typings';
import { hubToken } from '../../core/environment.js';
import { formatBytes } from '../../core/format-bytes.js';
import { formatTable } from '../format.js';
import { withOutputOptions } from '../options.js';
import { CONTINUES_HINT, runCommand } from '../run-command.js';
import type { Terminal } from '../terminal.js';

/** `cartridges models pull|list`. */
export function addModelsCommand(program: Command, terminal: Terminal): void {
  const models = program.command('models').description('get models from a Hugging Face hub and list those that are here');

  withOutputOptions(
    models
      .command('pull')
      .description('download a GGUF into the Hugging Face cache; an interrupted download continues')
      .argument('<repository>', 'organisation/name on the hub')
      .argument('[file]', 'a file of it, or a part of the name such as Q4_K_M; Q8_0 is preferred')
      .option('--revision <name>', 'branch, tag or commit', 'main'),
  ).action((repo, file, { revision }, command) =>
    runCommand(
      terminal,
      command,
      async ({ output, run }) => {
        const { pullModel } = await import('../../models/hub/pull-model.js');
        const pulled = await pullModel({ repo, file, revision, token: hubToken(), ...run });
        output.result(pulled, () => `${pulled.path}\nuse it with: --model ${repo}:${pulled.file}`);
      },
      CONTINUES_HINT,
    ),
  );

  withOutputOptions(models.command('list').description('list the models that can be named without a download')).action(
    (_flags, command) =>
      runCommand(terminal, command, async ({ output }) => {
        const { listModels } = await import('../../models/hub/resolve-model.js');
        const found = await listModels();
        output.result({ models: found }, () =>
          formatTable(found.map(({ name, sizeBytes, path }) => [name, formatBytes(sizeBytes), path])),
        );
      }),
  );
}
