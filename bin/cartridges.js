#!/usr/bin/env node
// Starts the command line. In a clone it first brings dist/ up to date; a published package has no sources and just runs.

import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { buildWhenStale } from './build-when-stale.js';
import { checkNode } from './check-node.js';

checkNode();
const packageRoot = fileURLToPath(new URL('..', import.meta.url));
buildWhenStale(packageRoot);
const { main } = await import(pathToFileURL(join(packageRoot, 'dist', 'cli', 'main.js')).href);
await main(process.argv.slice(2));
