/** Who sends a request: the holder of an API key, or anybody on loopback when the server has no keys. */
export interface Caller {
  /** Names the key without revealing it. What is stored or cached for one scope is never read for another. */
  readonly scope: string;
  /** May load, upload, rename and delete cartridges, and see what they hold. */
  readonly isAdmin: boolean;
  /** Whether the key may use a cartridge. One that it may not use is answered exactly like one that does not exist. */
  mayUse(cartridgeId: string): boolean;
  /** The names of cartridges that it was given, if it was given names. */
  readonly names?: ReadonlySet<string>;
}
