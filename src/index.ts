/**
 * The library: the stages of the command line as functions, each with progress events and an AbortSignal.
 *
 * @example
 * const session = await ModelSession.open({ model: 'pocket' });
 * const corpus = await loadCorpus('notes.txt', session.tokenizer);
 * const settings = resolveSettings({ minutes: 5 });
 * const { result } = await buildCartridge({ session, corpus, settings, output: 'notes.cartridge.safetensors' });
 */
export type { Cartridge, FramingStamp, ModelFingerprint, Receipt } from './cartridge/cartridge.js';
export { type CartridgeHeader, readCartridge, readCartridgeHeader, writeCartridge } from './cartridge/cartridge-file.js';
export { composeCartridges } from './cartridge/composition.js';
export { type CheckpointOwner, readCheckpoint } from './cartridge/converters/read-checkpoint.js';
export { type SlotCache, writeSlotFile } from './cartridge/converters/slot-file.js';
export { type CheckpointOptions, type WrittenCheckpoint, writeCheckpoint } from './cartridge/converters/write-checkpoint.js';
export type { FloatType } from './cartridge/float-conversion.js';
export type { StateBlobSettings } from './cartridge/state-blob.js';
export type { ChatClient, ChatPiece, ChatRequest, ChatResponse, Sampling, Usage } from './chat/chat-client.js';
export { OpenAiChatClient, type OpenAiChatClientOptions } from './chat/openai-chat-client.js';
export { OpenAiServer, type OpenAiServerOptions } from './chat/openai-server.js';
export { CartridgesError, type ErrorCode, type ErrorDetails } from './core/errors.js';
export type { Message, Role } from './core/message.js';
export type { ProgressEvent, ProgressListener, RunOptions, Stage } from './core/progress.js';
export type { RetryPolicy } from './core/retry.js';
export type { SparseLogprobs, TopLogprobs } from './core/sparse-logprobs.js';
export type { Tokenizer } from './core/tokenizer.js';
export type { Document, Resource } from './corpus/resource.js';
export type { ConditionResult, QuestionSets } from './evaluation/condition-eval.js';
export type { ConditionName, ConditionReport, PerCondition } from './evaluation/conditions.js';
export type { AnswerRow, GenerationResult } from './evaluation/generation-eval.js';
export type { LossResult, LossRow } from './evaluation/loss-eval.js';
export { type Question, type ReadQuestionsOptions, readQuestions } from './evaluation/questions.js';
export { type EvaluationReport, formatReport, type ReportedAnswer, writeReport } from './evaluation/report.js';
export type { CartridgeHandle, CartridgeSource } from './inference/cartridge-handle.js';
export type { GenerationListener } from './inference/generation.js';
export { type EngineSettings, type EngineUsage, InferenceEngine } from './inference/inference-engine.js';
export { LanguageModel, type LanguageModelOptions } from './inference/language-model.js';
export type { CacheType } from './inference/llama-sequence-context.js';
export { type ChatEncoder, LocalChatClient, type LocalChatClientOptions } from './inference/local-chat-client.js';
export type {
  Completion,
  FinishReason,
  GeneratedToken,
  GenerationRequest,
  ReadRequest,
  RequestContext,
  Timings,
} from './inference/requests.js';
export type { EngineStatistics } from './inference/scheduler.js';
export { type PulledModel, type PullOptions, pullModel } from './models/hub/pull-model.js';
export { type LocalModel, listModels, resolveModel } from './models/hub/resolve-model.js';
export type { ModelConfig } from './models/model-config.js';
export type { ArchitectureTraits } from './models/registry.js';
export { type Build, type BuildOptions, type BuildResult, buildCartridge } from './pipeline/build.js';
export type { AnswerRequest, ChatBackend, ChatContext } from './pipeline/chat-backend.js';
export { ChatSession, type ChatSessionOptions } from './pipeline/chat-session.js';
export { loadCorpus, type TokenizedCorpus } from './pipeline/corpus-source.js';
export { type DoctorReport, examine } from './pipeline/doctor.js';
export { type EvaluateOptions, type Evaluation, evaluateCartridge } from './pipeline/evaluate.js';
export { ModelSession, type ModelSessionOptions } from './pipeline/model-session.js';
export { type CartridgeModel, type OpenedCartridge, openCartridge } from './pipeline/open-cartridge.js';
export type { SynthesisPlan } from './pipeline/plan.js';
export { type QuickstartOptions, type QuickstartReport, quickstart } from './pipeline/quickstart.js';
export { resolveSettings } from './pipeline/resolve-settings.js';
export { defineConfig, type Settings, type SettingsInput } from './pipeline/settings.js';
export { type SynthesizeDatasetOptions, synthesizeDataset } from './pipeline/synthesize.js';
export type { TimedAnswer } from './pipeline/timed-answer.js';
export { type TrainCartridgeOptions, type TrainedCartridge, trainCartridge } from './pipeline/train.js';
export { type GateCheck, type VerifyOptions, type VerifyReport, verifyEquivalence } from './pipeline/verify.js';
export type { Conversation } from './self-study/conversation.js';
export { type Dataset, loadConversations, openDataset } from './self-study/dataset/open-dataset.js';
export { writeUpstreamDataset } from './self-study/dataset/write-upstream.js';
export type { SynthesisReport } from './self-study/synthesize.js';
export type { CachePlan } from './serving/cache-plan.js';
export type { RequestLogEntry } from './serving/http/track-request.js';
export type { ServingSettings } from './serving/open-served-model.js';
export { type RunningServer, type ServeOptions, startServer } from './serving/server.js';
export type { AdamState } from './tensor/adam.js';
export type { ProductSpeed } from './tensor/device-profile.js';
export type { ProductsChoice } from './tensor/products/open-products.js';
export type { ProviderSpeed } from './tensor/products/product-trial.js';
export type { OperandType } from './tensor/products/products.js';
export type { TrainResult } from './training/train.js';
export type { TrainingState, TrainingStep } from './training/training-step.js';
