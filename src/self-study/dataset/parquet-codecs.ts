import { gunzipSync } from 'node:zlib';
import { type CompressionCodec, type Compressors, snappyUncompress } from 'hyparquet';
import { decompressZstd } from 'hyparquet-compressors';

type Decompressor = (input: Uint8Array, outputLength: number) => Uint8Array;

/** Codecs that datasets are read in. None writes more than `outputLength` bytes, which the caller has checked. */
const DECOMPRESSORS: Partial<Record<CompressionCodec, Decompressor>> = {
  SNAPPY: (input, outputLength) => {
    const output = new Uint8Array(outputLength);
    snappyUncompress(input, output);
    return output;
  },
  GZIP: (input, outputLength) => gunzipSync(input, { maxOutputLength: Math.max(outputLength, 1) }),
  ZSTD: (input, outputLength) => decompressZstd(input, new Uint8Array(outputLength)),
};

export const compressors: Compressors = DECOMPRESSORS;

export function decompressorFor(codec: CompressionCodec): Decompressor {
  const decompressor = DECOMPRESSORS[codec];
  if (!decompressor) throw new Error(`compression ${codec} is not supported`);
  return decompressor;
}
