import type { Context } from 'hono';

/** Whether the body of a request is a file, which is stored as it comes and may be large. */
export function isUpload({ req }: Context): boolean {
  return /^(application\/octet-stream|multipart\/form-data)\b/i.test(req.header('content-type') ?? '');
}
