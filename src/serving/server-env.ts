import type { Caller } from './caller.js';

/** What middleware puts beside every request; routes read it with `context.get('caller')`. */
export interface ServerEnv {
  Variables: {
    caller: Caller;
    /** In the header `X-Request-Id` and in the server's log. */
    requestId: string;
  };
}
