import type { Cartridge } from '../cartridge/cartridge.js';
import { CartridgesError } from '../core/errors.js';
import type { RunOptions } from '../core/progress.js';
import { compareLogits, type LogitDifference, QUANTIZED_TOLERANCE } from '../inference/compare-logits.js';
import type { EngineSettings, InferenceEngine } from '../inference/inference-engine.js';
import { logitsOf } from '../inference/score.js';
import type { FrozenModel } from '../models/frozen-model.js';
import { ggmlTypeLayout } from '../models/ggml-types.js';
import { runForward } from '../models/run-forward.js';
import type { ModelSession } from './model-session.js';

export interface GateCheck extends LogitDifference {
  /** How libllama ran, such as `f16 cache, flash attention`. */
  engine: string;
  tolerance: { largest?: number; meanKl: number; agreement: number };
  passed: boolean;
}

export interface VerifyReport {
  model: string;
  quantization: string;
  cartridgeTokens: number;
  tokens: number;
  checks: GateCheck[];
  passed: boolean;
}

export interface VerifyOptions extends RunOptions {
  session: ModelSession;
  cartridge: Cartridge;
  /** Read behind the cartridge by both. */
  text: string;
  weightType?: 'auto' | 'f32';
}

const VERIFIED_TOKENS = 64;

/** What differs least from the student; and what serving uses: the tuned settings, else the defaults. */
const EXACT: EngineSettings = { cacheType: 'f32', flashAttention: false };
const AS_SERVED: EngineSettings = {};

/**
 * The equivalence gate: the student that a cartridge was trained with and the libllama that serves it must agree on the logits
 * behind the same rows. Tolerances follow the type of the weights: with quantised ones libllama rounds activations to 8 bits,
 * so agreement is judged by the divergence.
 */
export async function verifyEquivalence(options: VerifyOptions): Promise<VerifyReport> {
  const { session, cartridge, signal } = options;
  const prompt = session.framing.encodeTurns([{ role: 'user', content: options.text }], {
    addGenerationPrompt: true,
    bos: false,
  });
  const tokens = prompt.subarray(0, VERIFIED_TOKENS);
  const student = await session.student(options.weightType ?? 'auto', options);
  const expected = await studentLogits(student, cartridge, tokens);
  const checks: GateCheck[] = [];
  for (const settings of [EXACT, AS_SERVED]) {
    const contextTokens = cartridge.tokenCount + tokens.length;
    const engine = await session.createEngine({ contextTokens, maxRequests: 1, ...settings });
    try {
      const handle = await engine.loadCartridge(cartridge);
      const found = await logitsOf(engine, tokens, { cartridges: [handle], ...(signal && { signal }) });
      checks.push(judge(expected, found, { session, student, engine }));
    } finally {
      await engine.dispose();
    }
  }
  return {
    model: session.path,
    quantization: session.fingerprint.quantization,
    cartridgeTokens: cartridge.tokenCount,
    tokens: tokens.length,
    checks,
    passed: checks.every((check) => check.passed),
  };
}

/** Throws `GATE_FAILED` that says by how much, for a report that did not pass. */
export function assertEquivalence(report: VerifyReport): void {
  const failed = report.checks.find((check) => !check.passed);
  if (!failed) return;
  const { largest, meanKl, agreement, engine } = failed;
  throw new CartridgesError(
    'GATE_FAILED',
    `student and libllama disagree (${engine}): max |Δlogit| ${largest.toExponential(2)}, KL ${meanKl.toExponential(2)}, ` +
      `${(agreement * 100).toFixed(0)} % of the best tokens agree`,
    { hint: 'do not serve this cartridge with this build; please report the model and the figures' },
  );
}

async function studentLogits(student: FrozenModel, cartridge: Cartridge, tokens: Int32Array): Promise<Float32Array> {
  const { logits } = await runForward(student, { tokens, prefix: cartridge, wantLogits: true });
  return logits;
}

function judge(
  expected: Float32Array,
  found: Float32Array,
  { session, student, engine }: { session: ModelSession; student: FrozenModel; engine: InferenceEngine },
): GateCheck {
  const difference = compareLogits(expected, found, session.config.vocabularySize);
  const tolerance = toleranceOf(roundedTypes(session, student, engine), engine);
  const passed =
    difference.largest <= (tolerance.largest ?? Number.POSITIVE_INFINITY) &&
    difference.meanKl <= tolerance.meanKl &&
    difference.agreement >= tolerance.agreement;
  const name = `${engine.cacheType} cache, ${engine.flashAttention ? 'flash' : 'plain'} attention`;
  return { engine: name, ...difference, tolerance, passed };
}

/** The types that one of both rounds to: those of the weights, and a cache that is coarser than f16. */
function roundedTypes({ fingerprint, tuning }: ModelSession, student: FrozenModel, { cacheType }: InferenceEngine): string[] {
  const types = [fingerprint.quantization, ggmlTypeLayout(student.types.forward)!.name];
  if (tuning?.weights === 'q8_0') types.push('Q8_0');
  if (cacheType === 'bf16') types.push('BF16');
  return types;
}

function toleranceOf(types: readonly string[], { cacheType, flashAttention }: InferenceEngine): GateCheck['tolerance'] {
  const isExact = cacheType === 'f32' && !flashAttention;
  if (types.every((type) => type === 'F32')) return { largest: isExact ? 1e-4 : 0.05, meanKl: 1e-4, agreement: 1 };
  if (types.every((type) => type === 'F32' || type === 'F16')) return { largest: 0.1, meanKl: 1e-4, agreement: 1 };
  return QUANTIZED_TOLERANCE;
}
