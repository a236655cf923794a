/** The digest of a study: what a confirmation freezes (docs/architecture.md §3). */

export interface HashedInstance {
  readonly instanceUid: string;
  /** SHA-256 of the original file, in hex. */
  readonly sha256: string;
}

/** Return the text whose SHA-256 is the study's digest. The same file given twice counts once. */
export function digestText(instances: readonly HashedInstance[]): string {
  const lines = new Set(instances.map(({ instanceUid, sha256 }) => `${instanceUid} ${sha256}\n`));
  // Plain comparison of code units: what is sorted is ASCII, and a locale's order would differ.
  return [...lines].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0)).join('');
}

/** Return how many instances the digest covers. */
export function digestCount(instances: readonly HashedInstance[]): number {
  return new Set(instances.map(({ instanceUid, sha256 }) => `${instanceUid} ${sha256}`)).size;
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
