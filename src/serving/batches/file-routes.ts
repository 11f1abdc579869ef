import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi';
import { dropConnectionOf } from '../http/connection.js';
import { json, refused } from '../json-answer.js';
import { notFound } from '../request-error.js';
import type { ServerEnv } from '../server-env.js';
import type { BatchStore } from './batch-store.js';
import { contentStream } from './content-stream.js';
import { paginate } from './paginate.js';
import { receiveUpload } from './receive-upload.js';
import { fileDeletedSchema, fileListQuery, fileListSchema, fileSchema, idParams, toFile, uploadSchema } from './schemas.js';

const tags = ['Files'];

const uploadRoute = {
  method: 'post' as const,
  path: '/v1/files',
  tags,
  summary: 'Upload a file',
  description: 'It is there when all of it is on the disk. It belongs to the key, as do the files of its batches.',
  request: { body: { required: true, content: { 'multipart/form-data': { schema: uploadSchema } } } },
  responses: { 200: json(fileSchema, 'The file'), default: refused },
};

const listRoute = createRoute({
  method: 'get',
  path: '/v1/files',
  tags,
  summary: 'The files of the key',
  request: { query: fileListQuery },
  responses: { 200: json(fileListSchema, 'A page of them'), default: refused },
});

const retrieveRoute = createRoute({
  method: 'get',
  path: '/v1/files/{id}',
  tags,
  summary: 'One file',
  request: { params: idParams },
  responses: { 200: json(fileSchema, 'What is known of it'), default: refused },
});

const contentRoute = createRoute({
  method: 'get',
  path: '/v1/files/{id}/content',
  tags,
  summary: 'The content of a file',
  request: { params: idParams },
  responses: {
    200: {
      description: 'Its bytes',
      content: { 'application/octet-stream': { schema: z.string().openapi({ format: 'binary' }) } },
    },
    default: refused,
  },
});

const deleteRoute = createRoute({
  method: 'delete',
  path: '/v1/files/{id}',
  tags,
  summary: 'Delete a file',
  description: 'Not while a batch reads it.',
  request: { params: idParams },
  responses: { 200: json(fileDeletedSchema, 'It is deleted'), default: refused },
});

/** OpenAI's routes for files. */
export function addFileRoutes(router: OpenAPIHono<ServerEnv>, store: BatchStore): void {
  // Documented by its schema and checked by it in the handler: the check of a form in a route would hold the file in memory.
  router.openAPIRegistry.registerPath(uploadRoute);
  router.post(uploadRoute.path, async (context) => {
    const file = await receiveUpload(context.req.raw, context.get('caller').scope, store);
    return context.json(toFile(file), 200);
  });
  router.openapi(listRoute, (context) => {
    const { purpose, order, ...page } = context.req.valid('query');
    const all = store.files.list(context.get('caller').scope);
    const files = purpose === undefined ? all : all.filter((file) => file.purpose === purpose);
    if (order === 'asc') files.reverse();
    const found = paginate(files, page, (id) => notFound('file', id, 'after'));
    return context.json({ ...found, data: found.data.map(toFile) }, 200);
  });
  router.openapi(retrieveRoute, (context) => {
    const file = store.files.get(context.get('caller').scope, context.req.valid('param').id);
    return context.json(toFile(file), 200);
  });
  router.openapi(contentRoute, async (context) => {
    const file = store.files.get(context.get('caller').scope, context.req.valid('param').id);
    const reader = { signal: context.req.raw.signal, dropConnection: dropConnectionOf(context) };
    return new Response(contentStream(await store.files.openContent(file), reader), {
      headers: {
        'content-type': 'application/octet-stream',
        'content-length': String(file.bytes),
        'content-disposition': `attachment; filename="${file.id}"`,
      },
    });
  });
  router.openapi(deleteRoute, async (context) => {
    const { id } = context.req.valid('param');
    await store.deleteFile(context.get('caller').scope, id);
    return context.json({ id, object: 'file' as const, deleted: true as const }, 200);
  });
}
