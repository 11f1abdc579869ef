/** Says what the sender of a request should know beside its answer. */
export const WARNING_HEADER = 'X-Cartridges-Warning';
