import { loadOneDnn } from '../../native/onednn/library.js';
import type { GgmlThread } from '../ggml-thread.js';
import { GgmlProducts } from './ggml-products.js';
import { OneDnnProducts } from './onednn-products.js';
import type { OperandType, Products } from './products.js';

/** Which provider multiplies: plain data, which a worker thread can be given. */
export type ProductsChoice =
  | { provider: 'ggml'; operandType: OperandType }
  | { provider: 'oneDNN'; operandType: OperandType; path: string };

/** Whether it reads f32 matrices column by column where they lie, and wants their rows spaced for that. */
export function readsByColumn({ provider, operandType }: ProductsChoice): boolean {
  return provider === 'oneDNN' && operandType === 'f32';
}

/** Opens the chosen provider for the calling thread. */
export function openProducts(choice: ProductsChoice, thread: GgmlThread): Products {
  if (choice.provider === 'ggml') return new GgmlProducts(thread, choice.operandType);
  return new OneDnnProducts(loadOneDnn(choice.path), choice.operandType);
}
