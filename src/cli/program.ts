import { Command } from '@commander-js/extra-typings';
import { packageVersion } from '../core/package.js';
import { addBuildCommand } from './commands/build.js';
import { addChatCommand } from './commands/chat.js';
import { addDoctorCommand } from './commands/doctor.js';
import { addEvaluateCommand } from './commands/evaluate.js';
import { addExportCommand } from './commands/export.js';
import { addImportCommand } from './commands/import.js';
import { addInspectCommand } from './commands/inspect.js';
import { addKeysCommand } from './commands/keys.js';
import { addModelsCommand } from './commands/models.js';
import { addQuickstartCommand } from './commands/quickstart.js';
import { addServeCommand } from './commands/serve.js';
import { addSettingsCommand } from './commands/settings.js';
import { addSynthesizeCommand } from './commands/synthesize.js';
import { addTrainCommand } from './commands/train.js';
import { addTuneCommand } from './commands/tune.js';
import { addVerifyCommand } from './commands/verify.js';
import type { Terminal } from './terminal.js';

/** The command line as data: every command with its options. Parsing throws CommanderError and never ends the process. */
export function createProgram(terminal: Terminal): Command {
  const program = new Command('cartridges')
    .description('Train a small KV cache once per text and use it in place of the text.')
    .version(packageVersion(), '--version', 'print the version')
    .helpOption('--help', 'show this text')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      writeErr: (text) => terminal.stderr.write(text),
      // The message is in the CommanderError, and is written with all other errors.
      outputError: () => {},
    });
  addBuildCommand(program, terminal);
  addQuickstartCommand(program, terminal);
  addSynthesizeCommand(program, terminal);
  addTrainCommand(program, terminal);
  addEvaluateCommand(program, terminal);
  addChatCommand(program, terminal);
  addServeCommand(program, terminal);
  addKeysCommand(program, terminal);
  addVerifyCommand(program, terminal);
  addDoctorCommand(program, terminal);
  addTuneCommand(program, terminal);
  addInspectCommand(program, terminal);
  addImportCommand(program, terminal);
  addExportCommand(program, terminal);
  addModelsCommand(program, terminal);
  addSettingsCommand(program, terminal);
  return program;
}
