import koffi, { type LibraryHandle } from 'koffi';

// Native code runs on koffi's own stacks; its defaults (2 MiB and 128 KiB) are too small for some kernels. This only works
// before the first library is loaded, so every other file of this folder imports koffi from here.
koffi.config({ sync_stack_size: 16 << 20, async_stack_size: 8 << 20, resident_async_pools: 2 });

/** A C function bound by koffi: called as it is it blocks the event loop, through {@link callAsync} it runs on a thread. */
export type NativeFunction<F extends (...args: never[]) => unknown> = F & {
  async: (...args: [...Parameters<F>, (error: Error | null, result: ReturnType<F>) => void]) => void;
};

/** Binds C functions of one library; the type parameter says what TypeScript sees, the signature what C sees. */
export function binder(library: LibraryHandle) {
  return <F extends (...args: never[]) => unknown>(signature: string): NativeFunction<F> =>
    library.func(signature) as unknown as NativeFunction<F>;
}

/** Runs a C function on a worker thread. One context, graph or scheduler must see one call at a time. */
export function callAsync<F extends (...args: never[]) => unknown>(
  native: NativeFunction<F>,
  ...args: Parameters<F>
): Promise<ReturnType<F>> {
  return new Promise((resolve, reject) => {
    native.async(...args, (error, result) => (error ? reject(error) : resolve(result)));
  });
}

/** The memory at an address as an ArrayBuffer, without a copy; valid as long as the native memory is. */
export function viewMemory(address: bigint, bytes: number): ArrayBuffer {
  return koffi.view(address, bytes) as ArrayBuffer;
}

export { koffi, type LibraryHandle };
