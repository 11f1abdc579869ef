import { describe, expect, it } from 'vitest';
import { BoundedTemplate } from './bounded-template.js';

const doubled = (name: string, times: number) => `{% set ${name} = ${name} + ${name} %}`.repeat(times);
const loops = (list: string, depth: number) => `${`{% for i in ${list} %}`.repeat(depth)}${'{% endfor %}'.repeat(depth)}`;

describe('BoundedTemplate', () => {
  it('gives a template its variables and the globals of Jinja', () => {
    const template = new BoundedTemplate(
      '{{ word }}{% if True and not false and none is none %}{% for i in range(7, 1, -2) %} {{ i }}{% endfor %}{% endif %}',
    );
    expect(template.render({ word: 'down' })).toBe('down 7 5 3');
    expect(new BoundedTemplate('{{ range(3)|join(",") }}').render({})).toBe('0,1,2');
    expect(() => new BoundedTemplate('{{ raise_exception("no") }}').render({})).toThrow('no');
    expect(() => new BoundedTemplate('{{ range(1, 2, 0) }}').render({})).toThrow('zero');
    expect(() => new BoundedTemplate('{{ true }}').render({ true: false })).toThrow('already declared: true');
  });

  it.each([
    ['loops in loops', loops('range(100000)', 2)],
    ['loops over a list, six deep', `{% set x = "${'a '.repeat(200)}".split() %}${loops('x', 6)}`],
    ['loops over messages, twelve deep', loops('[1, 2, 3, 4, 5, 6]', 12)],
    ['an endless range', '{{ range(1000000000) }}'],
    ['a text that doubles', `{% set x = "a" %}${doubled('x', 40)}`],
    ['a list that doubles', `{% set x = [1] %}${doubled('x', 40)}`],
    ['a list that holds itself twice, again and again', `{% set x = [1] %}${'{% set x = [x, x] %}'.repeat(40)}{{ x }}`],
  ])('ends %s', (_what, source) => {
    const template = new BoundedTemplate(source, 500);
    expect(() => template.render({})).toThrow(
      expect.objectContaining({
        code: 'UNSUPPORTED_MODEL',
        message: "the model's chat template takes too long or too much memory",
      }),
    );
  });

  it('ends the reading of a template that its lexer goes over again and again', () => {
    expect(() => new BoundedTemplate(`{% if x %}${'\n'.repeat(250_000)}a{% endif %}`, 500)).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED_MODEL' }),
    );
  });

  it('lets a template look at all messages for each of many', () => {
    const source = '{% for m in messages %}{% if messages|length > 1 and messages[0].role %}{{ m.role }}{% endif %}{% endfor %}';
    const messages = Array.from({ length: 4096 }, () => ({ role: 'user' }));
    expect(new BoundedTemplate(source).render({ messages })).toBe('user'.repeat(4096));
  });
});
