/** The example of the README: a text file becomes a cartridge, and the cartridge is asked. */

// In a project of your own: from 'cartridges'.
import { buildCartridge, ChatSession, loadCorpus, ModelSession, resolveSettings } from '../src/index.js';

const session = await ModelSession.open({ model: 'Qwen/Qwen3-0.6B-GGUF' });
const corpus = await loadCorpus('notes.txt', session.tokenizer);
const settings = resolveSettings({ minutes: 60 });
const { cartridge } = await buildCartridge({ session, corpus, settings, output: 'notes.cartridge.safetensors' });

const chat = await ChatSession.start({ session, cartridge });
for await (const text of chat.ask('What was decided in May?')) process.stdout.write(text);
await session.dispose();
