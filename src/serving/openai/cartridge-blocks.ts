import { RequestError } from '../request-error.js';
import { type CartridgeField, cartridgeSchema } from './request-fields.js';

const OPENING = '<cartridge>';
const CLOSING = '</cartridge>';
/** UTF-16 units of the JSON inside one block. */
const MAX_BLOCK_LENGTH = 2048;

export interface ExtractedBlocks {
  cartridges: CartridgeField[];
  /** What is left of the message: no white space around it, no more than one empty line in a row. */
  text: string;
}

/**
 * Takes Tokasaurus' blocks `<cartridge>{"id": "NAME"}</cartridge>` out of a system message.
 *
 * Tokasaurus passes over a block that it cannot read. The answer would then come from the model without its document, and look
 * like any other: so such a block is refused with 400. `param` is the field of the request that `content` is from.
 */
export function extractCartridgeBlocks(content: string, param: string): ExtractedBlocks {
  const cartridges: CartridgeField[] = [];
  const texts: string[] = [];
  let at = 0;
  for (let start = content.indexOf(OPENING); start >= 0; start = content.indexOf(OPENING, at)) {
    const end = content.indexOf(CLOSING, start);
    if (end < 0) throw refusal('is not closed', param);
    texts.push(content.slice(at, start));
    cartridges.push(readBlock(content.slice(start + OPENING.length, end), param));
    at = end + CLOSING.length;
  }
  if (cartridges.length === 0) return { cartridges, text: content };
  texts.push(content.slice(at));
  return {
    cartridges,
    text: texts
      .join('')
      .replaceAll(/\n{3,}/g, '\n\n')
      .trim(),
  };
}

function readBlock(json: string, param: string): CartridgeField {
  if (json.length > MAX_BLOCK_LENGTH) throw refusal(`is longer than ${MAX_BLOCK_LENGTH} characters`, param);
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw refusal('is not JSON', param);
  }
  const read = cartridgeSchema.safeParse(value);
  if (read.success) return read.data;
  const issue = read.error.issues[0]!;
  throw refusal(`is wrong: ${[...issue.path, issue.message].join(': ')}`, param);
}

function refusal(what: string, param: string): RequestError {
  return new RequestError(400, `a <cartridge> block in ${param} ${what}`, {
    param,
    hint: 'write <cartridge>{"id": "NAME"}</cartridge>',
  });
}
