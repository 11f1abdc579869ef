/** Serves a cartridge from a program, asks it over HTTP, and stops. */

// In a project of your own: from 'cartridges'.
import { OpenAiChatClient, OpenAiServer, resolveSettings, startServer } from '../src/index.js';

const settings = resolveSettings({ serving: { port: 0, cartridges: ['harbour=quickstart.cartridge.safetensors'] } });
const server = await startServer({ ...settings, model: 'pocket' });

const client = new OpenAiChatClient({ server: new OpenAiServer({ url: server.url }), model: `${server.model}:harbour` });
const messages = [{ role: 'user' as const, content: 'What is the cargo of the Brojel?' }];
const { text } = await client.chat({ messages, maxTokens: 64, sampling: { temperature: 0 } });
console.log(text);

await server.close();
