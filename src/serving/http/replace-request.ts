/** The methods that routes have. Some others cannot be spelled in a Request that is made here. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']);

/**
 * The same request with another signal or body, for middleware to put in its place. Its signal is the one that is given: a new
 * Request has one of its own that follows it, but only until the request in between is collected as garbage.
 */
export function replaceRequest(request: Request, { signal = request.signal, body = request.body }: RequestParts): Request {
  const { url, method, headers } = request;
  if (!METHODS.has(method)) return request;
  const replaced = new Request(url, { method, headers, body, duplex: 'half' });
  return Object.defineProperty(replaced, 'signal', { value: signal });
}

interface RequestParts {
  signal?: AbortSignal;
  body?: ReadableStream<Uint8Array> | Uint8Array<ArrayBuffer> | null;
}
