import type { MiddlewareHandler } from 'hono';
import { RequestError } from '../request-error.js';
import type { ServerEnv } from '../server-env.js';
import { jsonDepth, MAX_JSON_DEPTH } from './json-depth.js';
import { limitStream, readStream, tooLarge } from './read-body.js';
import { replaceRequest } from './replace-request.js';
import { isUpload } from './upload.js';

export interface BodyLimits {
  maxBodyBytes: number;
  /** Of a body that is stored as it comes. */
  maxUploadBytes: number;
}

/**
 * Bounds what is read of a body: uploads are streams with an end, everything else is read here, and refused when it is nested so
 * deep that checking it would fail.
 */
export function limitBody({ maxBodyBytes, maxUploadBytes }: BodyLimits): MiddlewareHandler<ServerEnv> {
  return async function limitRequestBody(context, next) {
    const { raw } = context.req;
    const maxBytes = isUpload(context) ? maxUploadBytes : maxBodyBytes;
    if (Number(context.req.header('content-length') ?? 0) > maxBytes) throw tooLarge(maxBytes);
    if (raw.body) {
      const stream = limitStream(raw.body, maxBytes, raw.signal);
      context.req.raw = replaceRequest(raw, { body: isUpload(context) ? stream : checkDepth(await readStream(stream)) });
    }
    await next();
  };
}

function checkDepth(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (jsonDepth(bytes) <= MAX_JSON_DEPTH) return bytes;
  throw new RequestError(400, `the body is nested deeper than ${MAX_JSON_DEPTH} levels`);
}
