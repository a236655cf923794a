/** The digest of a study: what a confirmation freezes (docs/architecture.md §3). */

export interface HashedInstance {
  readonly instanceUid: string;
  /** SHA-256 of the original file, in hex. */
  readonly sha256: string;
}

/** Of several files with one SOP Instance UID the first counts, as on the node; the others are not of the study. */
function first(instances: readonly HashedInstance[]): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const { instanceUid, sha256 } of instances) {
    if (!found.has(instanceUid)) found.set(instanceUid, sha256);
  }
  return found;
}

/** Return the text whose SHA-256 is the study's digest. `instances`: in the order of the submission. */
export function digestText(instances: readonly HashedInstance[]): string {
  const lines = Array.from(first(instances), ([uid, sha256]) => `${uid} ${sha256}\n`);
  // Plain comparison of code units: what is sorted is ASCII, and a locale's order would differ.
  return lines.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0)).join('');
}

/** Return how many instances the digest covers. */
export function digestCount(instances: readonly HashedInstance[]): number {
  return first(instances).size;
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
