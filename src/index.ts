/**
 * The library: the stages of the command line as functions, each with progress events and an AbortSignal.
 *
 * @example
 * const session = await ModelSession.open({ model: 'pocket' });
 * const corpus = await loadCorpus('notes.txt', session.tokenizer);
 * const settings = resolveSettings({ minutes: 5 });
 * const { result } = await buildCartridge({ session, corpus, settings, output: 'notes.cartridge.safetensors' });
 */
export type { Cartridge, ModelFingerprint, Receipt } from './cartridge/cartridge.js';
export { type CartridgeHeader, readCartridge, readCartridgeHeader, writeCartridge } from './cartridge/cartridge-file.js';
export { composeCartridges } from './cartridge/composition.js';
export { readCheckpoint } from './cartridge/converters/read-checkpoint.js';
export { writeSlotFile } from './cartridge/converters/slot-file.js';
export { writeCheckpoint } from './cartridge/converters/write-checkpoint.js';
export type { ChatClient, ChatRequest, ChatResponse, Sampling, Usage } from './chat/chat-client.js';
export { OpenAiChatClient } from './chat/openai-chat-client.js';
export { OpenAiServer, type OpenAiServerOptions } from './chat/openai-server.js';
export { CartridgesError, type ErrorCode } from './core/errors.js';
export type { Message } from './core/message.js';
export type { ProgressEvent, ProgressListener, RunOptions } from './core/progress.js';
export type { SparseLogprobs } from './core/sparse-logprobs.js';
export type { Document, Resource } from './corpus/resource.js';
export { type Question, readQuestions } from './evaluation/questions.js';
export { type EvaluationReport, formatReport, writeReport } from './evaluation/report.js';
export { InferenceEngine } from './inference/inference-engine.js';
export { LanguageModel } from './inference/language-model.js';
export { LocalChatClient } from './inference/local-chat-client.js';
export { pullModel } from './models/hub/pull-model.js';
export { listModels, resolveModel } from './models/hub/resolve-model.js';
export { type BuildOptions, type BuildResult, buildCartridge } from './pipeline/build.js';
export { ChatSession } from './pipeline/chat-session.js';
export { loadCorpus, type TokenizedCorpus } from './pipeline/corpus-source.js';
export { type DoctorReport, examine } from './pipeline/doctor.js';
export { evaluateCartridge } from './pipeline/evaluate.js';
export { ModelSession } from './pipeline/model-session.js';
export { openCartridge } from './pipeline/open-cartridge.js';
export { quickstart } from './pipeline/quickstart.js';
export { resolveSettings } from './pipeline/resolve-settings.js';
export { defineConfig, type Settings, type SettingsInput } from './pipeline/settings.js';
export { synthesizeDataset } from './pipeline/synthesize.js';
export { trainCartridge } from './pipeline/train.js';
export { verifyEquivalence } from './pipeline/verify.js';
export type { Conversation } from './self-study/conversation.js';
export { type Dataset, loadConversations, openDataset } from './self-study/dataset/open-dataset.js';
export { writeUpstreamDataset } from './self-study/dataset/write-upstream.js';
export { type RunningServer, type ServeOptions, startServer } from './serving/server.js';
export type { TrainingStep } from './training/training-step.js';
