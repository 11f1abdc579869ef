import { createContext, Script } from 'node:vm';
import { Environment, Interpreter, Template } from '@huggingface/jinja';
import { CartridgesError } from '../core/errors.js';

/** The templates of models take less than a millisecond for a short chat. */
const MAX_MS = 2_000;
/** What a long chat may take besides. */
const MAX_MS_PER_MESSAGE = 1;
/**
 * Nodes evaluated in a rendering, and lengths of the texts and lists that they give. The templates of Qwen2, Phi-3, Command R and
 * Gemma 4 come to 2,300 to 4,100 for six messages.
 */
const MAX_WORK = 1 << 22;
/** A template may look at all messages for each message. */
const MAX_WORK_PER_PAIR = 16;
const MAX_RANGE = 1 << 20;

interface Value {
  value: unknown;
}

/** The library's own type is lost: its declarations import without file extensions. */
const JinjaInterpreter = Interpreter as new (
  environment: Environment,
) => {
  run(program: Template['parsed']): Value;
  evaluate(node: unknown, environment: Environment): Value;
};

const GLOBALS: Readonly<Record<string, unknown>> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  range,
  raise_exception: (message: string) => {
    throw new Error(message);
  },
};

/**
 * A Jinja template from somebody else. It can loop for ever or fill the memory, in the main thread: reading and rendering it have
 * an end. The clock bounds the time, whatever it is spent on. Memory can be full before that, so what is made is counted too.
 */
export class BoundedTemplate {
  readonly #template: Template;
  readonly #maxMs: number;

  /**
   * Throws an `Error` for what is not Jinja, `UNSUPPORTED_MODEL` at the limit.
   *
   * @param maxMs  Longest time for reading the template, and for a rendering without messages.
   */
  constructor(source: string, maxMs = MAX_MS) {
    this.#template = within(maxMs, () => new Template(source));
    this.#maxMs = maxMs;
  }

  /** Throws an `Error` when the template refuses its variables, `UNSUPPORTED_MODEL` at a limit. */
  render(variables: Readonly<Record<string, unknown>>): string {
    const environment = new Environment();
    // Where both have a name, the second is refused.
    for (const [name, value] of [...Object.entries(GLOBALS), ...Object.entries(variables)]) environment.set(name, value);
    const { messages } = variables;
    const count = Array.isArray(messages) ? messages.length : 0;
    const interpreter = new CountingInterpreter(environment, MAX_WORK + MAX_WORK_PER_PAIR * count ** 2);
    return within(this.#maxMs + MAX_MS_PER_MESSAGE * count, () => String(interpreter.run(this.#template.parsed).value));
  }
}

class CountingInterpreter extends JinjaInterpreter {
  #left: number;

  constructor(environment: Environment, maxWork: number) {
    super(environment);
    this.#left = maxWork;
  }

  override evaluate(node: unknown, environment: Environment): Value {
    const value = super.evaluate(node, environment);
    this.#left -= 1 + lengthOf(value);
    if (this.#left < 0) throw tooMuch();
    return value;
  }
}

function lengthOf({ value }: Value): number {
  if (typeof value === 'string' || Array.isArray(value)) return value.length;
  return value instanceof Map ? value.size : 0;
}

/** Python's. */
function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  if (step === 0) throw new Error('range() step must not be zero');
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (length > MAX_RANGE) throw tooMuch();
  return Array.from({ length }, (_, index) => start + index * step);
}

const context = createContext({ work: undefined });
const doWork = new Script('work()');

/** Of all that runs in this thread, only a script has a time limit; it holds for what the script calls too. A call takes 0.1 ms. */
function within<T>(timeoutMs: number, work: () => T): T {
  context['work'] = work;
  try {
    return doWork.runInContext(context, { timeout: timeoutMs });
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT' ? tooMuch() : error;
  } finally {
    context['work'] = undefined;
  }
}

function tooMuch(): CartridgesError {
  return new CartridgesError('UNSUPPORTED_MODEL', "the model's chat template takes too long or too much memory", {
    hint: 'use another model: such a template is broken, or means harm',
  });
}
