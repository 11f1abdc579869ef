/**
 * Settings for the folder that this file lies in. Flags win over it, and it wins over environment variables.
 * `cartridges settings` lists all settings, docs/settings.md explains them.
 */

// In a project of your own: import { defineConfig } from 'cartridges';
import { defineConfig } from '../src/pipeline/settings.js';

export default defineConfig({
  model: 'Qwen/Qwen3-0.6B-GGUF',
  // A build ends in time for this, with what it has.
  minutes: 60,
  synthesis: {
    // More conversations at once are faster and need more memory.
    concurrency: 16,
    answerMaxTokens: 256,
  },
  training: {
    // Rows of the cartridge. Without it they follow from the length of the text.
    tokens: 512,
    initializer: 'first-tokens',
  },
  evaluation: {
    questions: 'questions.jsonl',
    maxTokens: 128,
  },
});
