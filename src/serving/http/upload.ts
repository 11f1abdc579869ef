import type { Context } from 'hono';

/** The whole media type: one that goes on behind these, such as `application/octet-stream+json`, is read as JSON by its route. */
const UPLOAD_TYPE = /^(application\/octet-stream|multipart\/form-data)\s*(;|$)/i;

/** Whether the body of a request is a file, which is stored as it comes and may be large. */
export function isUpload({ req }: Context): boolean {
  return UPLOAD_TYPE.test(req.header('content-type') ?? '');
}
