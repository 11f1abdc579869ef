import { describe, expect, it } from 'vitest';
import { ChatTemplate } from './chat-template.js';

function template(source: string): ChatTemplate {
  return new ChatTemplate({ template: source, bosToken: '<s>', eosToken: '</s>' });
}

const PLAIN =
  '{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}>{% endif %}';

describe('ChatTemplate', () => {
  it('gives the texts of the template and the places of the contents', () => {
    expect(template(PLAIN).render([{ role: 'user' }, { role: 'assistant' }], true)).toEqual([
      { text: '[user]' },
      { message: 0 },
      { text: '</s>[assistant]' },
      { message: 1 },
      { text: '</s>>' },
    ]);
  });

  it('keeps the order of the text where a template reorders messages', () => {
    const reversed = template('{% for m in messages[::-1] %}{{ m.content }}{% endfor %}');
    expect(reversed.render([{ role: 'user' }, { role: 'assistant' }])).toEqual([{ message: 1 }, { message: 0 }]);
  });

  it('tells more than ten messages apart', () => {
    const messages = Array.from({ length: 12 }, () => ({ role: 'user' as const }));
    const places = template('{% for m in messages %}{{ m.content }}{% endfor %}').render(messages);
    expect(places).toEqual(messages.map((_message, message) => ({ message })));
  });

  it('shows templates a fixed date', () => {
    const dated = '{% if strftime_now is defined %}{{ strftime_now("%d %b %Y, %A %H:%M") }}{% endif %}';
    expect(template(dated).render([])).toEqual([{ text: '26 Jul 2024, Friday 00:00' }]);
  });

  it('switches thinking off and passes the tokens of the model', () => {
    const source = '{{ bos_token }}{{ eos_token }}{% if enable_thinking is false %}quiet{% endif %}';
    expect(template(source).render([])).toEqual([{ text: '<s></s>quiet' }]);
  });

  it('repeats what a template says when it refuses a chat', () => {
    const picky = template('{{ raise_exception("roles must alternate") }}');
    expect(() => picky.render([{ role: 'user' }])).toThrow(
      expect.objectContaining({ code: 'INVALID_INPUT', message: expect.stringContaining('roles must alternate') }),
    );
  });

  it('says of a template without end that it takes too long, not that it refuses the chat', () => {
    const endless = template('{% for i in range(1000000000) %}{% endfor %}');
    expect(() => endless.render([{ role: 'user' }])).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED_MODEL', message: expect.stringContaining('takes too long') }),
    );
  });

  it.each([
    ['a missing template', '  \n', 'no chat template'],
    ['a template that is not Jinja', '{% if %}', 'cannot be read'],
    ['an endless template', 'x'.repeat(300_000), 'longer than'],
  ])('refuses %s', (_name, source, message) => {
    expect(() => template(source)).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED_MODEL', message: expect.stringContaining(message) }),
    );
  });
});
