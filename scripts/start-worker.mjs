// Starts a worker thread whose file is TypeScript, which Node 20 cannot: `new Worker(this, { argv: [URL of the file] })`. Only
// the sources need it (tests, benchmarks); in dist/ workers are JavaScript.

import { register } from 'tsx/esm/api';

register();
await import(process.argv[2]);
