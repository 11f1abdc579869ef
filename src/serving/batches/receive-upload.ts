import { RequestError } from '../request-error.js';
import { fromZod } from '../router.js';
import type { BatchStore } from './batch-store.js';
import type { FileDraft } from './file-draft.js';
import type { FileDetails, StoredFile } from './file-store.js';
import { MultipartReader, type PartHead } from './multipart-reader.js';
import { uploadSchema } from './schemas.js';

const MAX_FIELD_BYTES = 1024;
/** A file and every field that there is, each once. */
const MAX_PARTS = 4;
const MAX_FILENAME_LENGTH = 255;

/** A form as it came: its file is in a draft, its fields are here. */
type Form = Record<string, string>;

/**
 * Streams the file of a form to the disk and publishes it for a scope. Throws 400 for a form that is malformed or has other
 * fields, 413 as soon as the file has too many bytes; nothing is left of it then.
 */
export async function receiveUpload(request: Request, scope: string, store: BatchStore): Promise<StoredFile> {
  const reader = new MultipartReader(request.body, request.headers.get('content-type'), request.signal);
  try {
    const draft = await store.files.beginUpload(scope);
    try {
      return await store.publish(draft, detailsOf(await readForm(reader, draft)));
    } catch (error) {
      await draft.discard();
      throw error;
    }
  } finally {
    reader.close();
  }
}

async function readForm(reader: MultipartReader, draft: FileDraft): Promise<Form> {
  const form: Form = Object.create(null);
  for (let part = await reader.nextPart(); part; part = await reader.nextPart()) {
    if (part.name in form) throw new RequestError(400, `the field ${part.name} comes twice`, { param: part.name });
    if (Object.keys(form).length === MAX_PARTS) throw new RequestError(400, `the form has more than ${MAX_PARTS} parts`);
    form[part.name] = part.name === 'file' ? await readFile(part, reader, draft) : await readField(part, reader);
  }
  return form;
}

async function readFile({ filename }: PartHead, reader: MultipartReader, draft: FileDraft): Promise<string> {
  if (filename === undefined) throw new RequestError(400, 'file: must be a file', { param: 'file' });
  for await (const bytes of reader.content()) await draft.write(bytes);
  return cleanName(filename);
}

async function readField({ name }: PartHead, reader: MultipartReader): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const bytes of reader.content()) {
    length += bytes.byteLength;
    if (length > MAX_FIELD_BYTES) throw new RequestError(400, `${name}: has more than ${MAX_FIELD_BYTES} bytes`, { param: name });
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function detailsOf(form: Form): FileDetails {
  const result = uploadSchema.safeParse({ ...form });
  if (!result.success) throw fromZod(result.error);
  const { file, purpose, 'expires_after[seconds]': expiresAfterSeconds } = result.data;
  return { filename: file, purpose, expiresAfterSeconds };
}

/** What is shown again as the name of a file; it is not used for anything else. */
function cleanName(filename: string): string {
  const name = filename.split(/[/\\]/).at(-1)!;
  return Array.from(name.replace(/\p{C}/gu, '')).slice(0, MAX_FILENAME_LENGTH).join('');
}
