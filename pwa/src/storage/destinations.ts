/** Which PACS the mesh knew last, and which one was chosen: names of hospitals, nothing of a patient. */

import type { Destination } from '../domain/destinations';

const KNOWN = 'destinations';
const LAST = 'last-destination';

export const remembered = {
  known(): readonly Destination[] {
    try {
      return JSON.parse(localStorage.getItem(KNOWN) ?? '[]') as readonly Destination[];
    } catch {
      return [];
    }
  },
  /** A node that has not met the others yet knows none: that is no news of them. */
  setKnown(known: readonly Destination[]): void {
    if (known.length === 0) return;
    const kept = known.map(({ name, modalities, origins }) => ({ name, modalities, origins }));
    write(KNOWN, JSON.stringify(kept));
  },
  last(): string | null {
    try {
      return localStorage.getItem(LAST);
    } catch {
      return null;
    }
  },
  setLast: (name: string): void => write(LAST, name),
};

/** What cannot be remembered is asked again: it must not stop a study. */
function write(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // The storage is full, or the browser has none for this page.
  }
}
