import { createHash } from 'node:crypto';
import { html, raw } from 'hono/html';
import type { OpenApiDocument } from './openapi-document.js';

const STYLE = `
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
section { border-top: 1px solid #ccc; margin-top: 1.5rem; padding-top: .5rem }
h3 { font: 600 1rem ui-monospace, monospace } summary { cursor: pointer; color: #06c }
pre { background: #f4f4f4; padding: .75rem; overflow-x: auto; font-size: .85rem } b { color: #06c }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } pre { background: #242424 } section { border-color: #444 }
  b, summary, a { color: #6af } }
`;

/** The page loads nothing and runs nothing: the only thing allowed is its own style. */
export const PAGE_POLICY = `default-src 'none'; frame-ancestors 'none'; style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`;

type Html = ReturnType<typeof html>;

interface Operation {
  tags?: string[];
  summary?: string;
  description?: string;
  parameters?: unknown[];
  requestBody?: unknown;
  responses?: object;
}

interface Endpoint {
  method: string;
  path: string;
  operation: Operation;
}

/** The routes of an OpenAPI document as one page of HTML without scripts. */
export function documentationPage(document: OpenApiDocument): Html {
  const { title, version, description } = document.info;
  return html`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title}</title><style>${raw(STYLE)}</style></head>
<body>
<h1>${title} ${version}</h1>
<p>${description ?? ''}</p>
<p><a href="openapi.json">openapi.json</a></p>
${[...byTag(document)].map(([tag, endpoints]) => html`<h2>${tag}</h2>${endpoints.map(endpointSection)}`)}
<h2>Schemas</h2>
${Object.entries(document.components?.schemas ?? {}).map(([name, schema]) => jsonBlock(name, schema))}
</body>
</html>`;
}

function byTag({ paths = {} }: OpenApiDocument): Map<string, Endpoint[]> {
  const groups = new Map<string, Endpoint[]>();
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(methods as Record<string, Operation>)) {
      const tag = operation.tags?.[0] ?? 'Other';
      groups.set(tag, [...(groups.get(tag) ?? []), { method, path, operation }]);
    }
  }
  return groups;
}

function endpointSection({ method, path, operation }: Endpoint): Html {
  return html`<section>
<h3><b>${method.toUpperCase()}</b> ${path}</h3>
<p>${operation.summary ?? ''} ${operation.description ?? ''}</p>
${operation.parameters ? jsonBlock('parameters', operation.parameters) : ''}
${operation.requestBody ? jsonBlock('body', operation.requestBody) : ''}
${jsonBlock('answers', operation.responses)}
</section>`;
}

function jsonBlock(title: string, value: unknown): Html {
  return html`<details><summary>${title}</summary><pre>${JSON.stringify(value, null, 2)}</pre></details>`;
}
