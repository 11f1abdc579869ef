import type { Caller } from './caller.js';
import type { Place } from './limits/place.js';

/** What middleware puts beside every request; routes read it with `context.get('caller')`. */
export interface ServerEnv {
  Variables: {
    caller: Caller;
    /** Of a request whose answers count against its key: one for answers, unless it is a line of a batch on disk. */
    place?: Place | undefined;
    /** In the header `X-Request-Id` and in the server's log. */
    requestId: string;
  };
}
