/** Bounds of what a library takes in; all are checked before memory or disk is used. */
export interface LibraryLimits {
  /** Largest file of one cartridge. */
  maxFileBytes: number;
  /** All files in the library's folder together. */
  maxFolderBytes: number;
  maxCartridges: number;
  maxAliases: number;
  maxCartridgesPerRequest: number;
  /** Uploads at the same time. */
  maxUploads: number;
  uploadSeconds: number;
  /** Downloads at the same time. */
  maxDownloads: number;
  downloadSeconds: number;
}

export const DEFAULT_LIBRARY_LIMITS: LibraryLimits = {
  maxFileBytes: 4 * 2 ** 30,
  maxFolderBytes: 256 * 2 ** 30,
  maxCartridges: 10_000,
  maxAliases: 10_000,
  maxCartridgesPerRequest: 16,
  maxUploads: 4,
  uploadSeconds: 3_600,
  maxDownloads: 4,
  downloadSeconds: 3_600,
};
