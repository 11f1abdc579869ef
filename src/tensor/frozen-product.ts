import { type Ggml, GgmlType } from '../native/ggml.js';
import type { GgmlContext, GgmlTensor } from '../native/handles.js';
import type { StoredTensor } from './tensor-store.js';

/** `GGML_PREC_F32` */
const SUMS_IN_F32 = 10;

/**
 * x · Wᵀ for a frozen W [inputs, outputs] and x [inputs, …]: [outputs, …], summed in f32.
 *
 * By default CUDA and Vulkan sum products of f16 and of quantised weights in f16, which ends at 65,504 and loses a gradient's small
 * terms. Sums of bf16 are f32 anyway, and asking for it would keep CUDA from its units for bf16.
 */
export function frozenProduct(ggml: Ggml, context: GgmlContext, weight: StoredTensor, x: GgmlTensor): GgmlTensor {
  const product = ggml.ggml_mul_mat(context, weight.handle, x);
  if (weight.type !== GgmlType.BF16) ggml.ggml_mul_mat_set_prec(product, SUMS_IN_F32);
  return product;
}
