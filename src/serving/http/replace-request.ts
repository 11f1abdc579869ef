/** The methods whose requests may have a body; only their routes do work that can be cut short. */
const METHODS_WITH_BODY = new Set(['POST', 'PUT', 'PATCH', 'DELETE']);

/**
 * The same request with another signal or body, for middleware to put in its place. Its signal is the one that is given: a new
 * Request has one of its own that follows it, but only until the request in between is collected as garbage.
 */
export function replaceRequest(request: Request, { signal = request.signal, body = request.body }: RequestParts): Request {
  const { url, method, headers } = request;
  if (!METHODS_WITH_BODY.has(method)) return request;
  const replaced = new Request(url, { method, headers, body, duplex: 'half' });
  return Object.defineProperty(replaced, 'signal', { value: signal });
}

interface RequestParts {
  signal?: AbortSignal;
  body?: ReadableStream<Uint8Array> | Uint8Array<ArrayBuffer> | null;
}
