import { vi } from 'vitest';
import type { GgmlGraph, GgmlScheduler, GgmlTensor } from '../../src/native/handles.js';
import { koffi } from '../../src/native/koffi.js';
import type { Backend } from '../../src/tensor/backend.js';

/**
 * The operations of graphs that a device does not take, by name, from now on until mocks are restored: the scheduler gives them to the
 * processor, with copies there and back.
 */
export function watchRefusedOperations({ engine, handle }: Backend): string[] {
  const base = koffi.load(engine.files.base);
  const nodeOf = base.func('void *ggml_graph_node(void *graph, int index)') as (graph: GgmlGraph, index: number) => GgmlTensor;
  const nameOf = base.func('const char *ggml_op_desc(void *tensor)') as (tensor: GgmlTensor) => string;
  const { ggml } = engine;
  const refused: string[] = [];
  const allocate = ggml.ggml_backend_sched_alloc_graph;
  vi.spyOn(ggml, 'ggml_backend_sched_alloc_graph').mockImplementation((scheduler: GgmlScheduler, graph: GgmlGraph) => {
    const nodes = Array.from({ length: ggml.ggml_graph_n_nodes(graph) }, (_, index) => nodeOf(graph, index));
    refused.push(...nodes.filter((node) => !ggml.ggml_backend_supports_op(handle, node)).map(nameOf));
    return allocate(scheduler, graph);
  });
  return refused;
}
